//! Destinations: every family, forwarding method, tunnel and limit.

use std::net::Ipv4Addr;

use ipvs_netlink::{
    Destination, DestinationId, Errno, Family, ForwardingMethod, Netmask, Scheduler, Service,
    ServiceId, Tunnel, TunnelFlags,
};
use kube_ipvs_tests::{Namespace, run};

use super::{client, endpoint, endpoint6, restore, saved, web, web6};

fn forwarded(id: DestinationId, forwarding: ForwardingMethod) -> Destination {
    Destination {
        forwarding,
        ..Destination::new(id)
    }
}

fn tunnelled(id: DestinationId, tunnel: Tunnel) -> Destination {
    Destination {
        tunnel,
        ..forwarded(id, ForwardingMethod::Tunnel)
    }
}

/// A service with a destination, and the rules by which `ipvsadm` knows them.
fn cases() -> Vec<(ServiceId, Destination, &'static str)> {
    let mark = ServiceId::fwmark(7, Family::V6);
    let heavy = |weight| Destination {
        weight,
        ..Destination::new(endpoint(7, 8080))
    };
    let remote = TunnelFlags::REMOTE_CHECKSUM;
    let sum = TunnelFlags::CHECKSUM;
    let none = TunnelFlags::empty();
    let route = ForwardingMethod::DirectRoute;
    vec![
        (
            web(),
            heavy(1),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 1",
        ),
        (
            web(),
            heavy(0),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 0",
        ),
        (
            web(),
            heavy(65_535),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 65535",
        ),
        (
            web(),
            forwarded(endpoint(7, 80), route),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -g -w 1",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::IPIP),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type ipip",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::gue(6080, none)),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::gue(6080, sum)),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::gue(6080, remote)),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::gre(none)),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type gre --tun-nocsum",
        ),
        (
            web(),
            tunnelled(endpoint(7, 80), Tunnel::gre(sum)),
            "-a -t 10.96.0.10:80 -r 10.244.1.7:80 -i -w 1 --tun-type gre --tun-csum",
        ),
        (
            web(),
            tunnelled(endpoint6(7, 80), Tunnel::IPIP),
            "-a -t 10.96.0.10:80 -r [fd00:1::7]:80 -i -w 1 --tun-type ipip",
        ),
        (
            web6(),
            tunnelled(endpoint(7, 80), Tunnel::IPIP),
            "-a -t [fd00::a]:80 -r 10.244.1.7:80 -i -w 1 --tun-type ipip",
        ),
        (
            web6(),
            Destination::new(endpoint6(7, 8443)),
            "-a -t [fd00::a]:80 -r [fd00:1::7]:8443 -m -w 1",
        ),
        (
            mark,
            forwarded(endpoint6(7, 0), route),
            "-a -f 7 -6 -r [fd00:1::7]:0 -g -w 1",
        ),
        (
            mark,
            Destination::new(endpoint6(7, 8443)),
            "-a -f 7 -6 -r [fd00:1::7]:8443 -m -w 1",
        ),
    ]
}

/// The rule of a service with scheduler `rr`, from that of its destination.
fn service_rule(rule: &str) -> String {
    let (service, _) = rule.split_once(" -r ").expect("rules have a server");
    format!("{} -s rr", service.replacen("-a", "-A", 1))
}

#[test]
fn ipvsadm_reads_the_destinations_we_write() {
    let _namespace = Namespace::enter();
    let mut client = client();
    for (service, destination, rule) in cases() {
        client
            .add_service(&Service::new(service, Scheduler::RR))
            .expect(rule);
        client.add_destination(&service, &destination).expect(rule);
        assert_eq!(saved(), [service_rule(rule), rule.to_owned()]);
        client
            .remove_destination(&service, &destination.id)
            .expect(rule);
        assert_eq!(saved(), [service_rule(rule)]);
        client.remove_service(&service).expect(rule);
    }
}

#[test]
fn we_read_the_destinations_ipvsadm_writes() {
    let _namespace = Namespace::enter();
    let mut client = client();
    for (service, destination, rule) in cases() {
        restore(&format!("{}\n{rule}", service_rule(rule)));
        assert_eq!(client.destinations(&service).expect(rule), [destination]);
        client.flush().expect(rule);
    }
}

#[test]
fn editing_a_destination_changes_every_setting() {
    let _namespace = Namespace::enter();
    let mut client = client();
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    client
        .add_destination(&web(), &Destination::new(endpoint(7, 80)))
        .expect("added");
    for (service, destination, rule) in cases() {
        if (service, destination.id) != (web(), endpoint(7, 80)) {
            continue;
        }
        client.edit_destination(&service, &destination).expect(rule);
        assert_eq!(saved(), [service_rule(rule), rule.to_owned()]);
    }
}

#[test]
fn thresholds_go_both_ways() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let limited = Destination {
        upper_threshold: 100,
        lower_threshold: 80,
        ..Destination::new(endpoint(7, 8080))
    };
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    client.add_destination(&web(), &limited).expect("added");

    let listed = run("ipvsadm", ["-Ln", "--thresholds"]);
    let line = listed.lines().last().expect("a server");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["->", "10.244.1.7:8080", "100", "80", "0", "0"]);

    let edit = "-e -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 2 -x 2147483647 -y 7";
    run("ipvsadm", edit.split(' '));
    let expected = Destination {
        weight: 2,
        upper_threshold: 2_147_483_647,
        lower_threshold: 7,
        ..limited
    };
    assert_eq!(client.destinations(&web()).expect("listed"), [expected]);
}

#[test]
fn methods_that_ipvsadm_cannot_set_come_back() {
    let _namespace = Namespace::enter();
    let mut client = client();
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    for forwarding in [ForwardingMethod::Local, ForwardingMethod::Bypass] {
        let destination = forwarded(endpoint(7, 80), forwarding);
        client.add_destination(&web(), &destination).expect("added");
        assert_eq!(client.destinations(&web()).expect("listed"), [destination]);
        client
            .remove_destination(&web(), &endpoint(7, 80))
            .expect("removed");
    }
}

#[test]
fn refusals_bear_the_errno_of_the_kernel() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let one = Destination::new(endpoint(7, 80));
    let errno = |result: Result<(), ipvs_netlink::Error>| result.expect_err("refused").errno();

    assert_eq!(
        errno(client.add_destination(&web(), &one)),
        Some(Errno::ESRCH)
    );
    assert_eq!(
        errno(client.destinations(&web()).map(drop)),
        Some(Errno::ESRCH)
    );
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    assert!(
        client
            .destinations(&web())
            .expect("empty, not missing")
            .is_empty()
    );
    assert_eq!(
        errno(client.edit_destination(&web(), &one)),
        Some(Errno::ENOENT)
    );
    assert_eq!(
        errno(client.remove_destination(&web(), &one.id)),
        Some(Errno::ENOENT)
    );
    client.add_destination(&web(), &one).expect("added");
    assert_eq!(
        errno(client.add_destination(&web(), &one)),
        Some(Errno::EEXIST)
    );
    let upside_down = Destination {
        upper_threshold: 1,
        lower_threshold: 2,
        ..one
    };
    assert_eq!(
        errno(client.edit_destination(&web(), &upside_down)),
        Some(Errno::ERANGE)
    );
    // The other family needs a tunnel.
    let other = Destination::new(endpoint6(7, 80));
    assert_eq!(
        errno(client.add_destination(&web(), &other)),
        Some(Errno::EINVAL)
    );
}

#[test]
fn with_lo_down_the_hint_says_so() {
    let _namespace = Namespace::enter();
    // Only where `lo` never was up is there no local routing table.
    let fresh = Namespace::child("fresh");
    let error = fresh.run(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
        let mut client = client();
        client
            .add_service(&Service::new(web(), Scheduler::RR))
            .expect("added");
        client.add_destination(&web(), &Destination::new(endpoint(7, 80)))
    });
    let error = error.expect_err("lo is down");
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(error.hint().expect("known").contains("ip link set lo up"));
}

/// More than fits one datagram of the kernel.
#[test]
fn a_long_list_is_whole() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let net = Netmask::host(Family::V4);
    client
        .add_service(&Service::new(web(), Scheduler::RR).persistent(300, net))
        .expect("added");
    let ids: Vec<_> = (0..1000u16)
        .map(|n| DestinationId::new(Ipv4Addr::new(10, 244, (n >> 8) as u8, n as u8), 8080))
        .filter(|id| !id.address.to_string().ends_with(".0"))
        .collect();
    for id in &ids {
        client
            .add_destination(&web(), &Destination::new(*id))
            .expect("added");
    }

    let mut listed: Vec<_> = client
        .destinations(&web())
        .expect("listed")
        .into_iter()
        .map(|d| d.id)
        .collect();
    listed.sort();
    assert_eq!(listed, ids);
    // Linux 6.12.95 crashes when a namespace ends that still counts so many
    // (docs/kernels.md).
    client.remove_service(&web()).expect("removed");
}

//! Services: every family, protocol, scheduler, flag and kind of persistence.

use std::net::Ipv4Addr;

use ipvs_netlink::{
    Client, Errno, Family, Netmask, Protocol, Scheduler, Service, ServiceFlags, ServiceId,
};
use kube_ipvs_tests::Namespace;

use super::{client, reported, restore, saved, web, web6};

/// A service, and the rule by which `ipvsadm` knows it.
fn cases() -> Vec<(Service, &'static str)> {
    let dns = ServiceId::udp(Ipv4Addr::new(10, 96, 0, 10), 53);
    let every_port = ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 11), 0);
    let plain = Service::new;
    let mut sip = plain(dns, Scheduler::RR).persistent(360, Netmask::host(Family::V4));
    sip.pe_name = Some("sip".to_owned());
    let net24 = Netmask::from_prefix(Family::V4, 24);
    let net64 = Netmask::from_prefix(Family::V6, 64);
    let (sh, mh, wrr) = (Scheduler::SH, Scheduler::MH, Scheduler::WRR);

    let mut cases = vec![
        (plain(dns, wrr.clone()), "-A -u 10.96.0.10:53 -s wrr"),
        (
            plain(
                ServiceId::sctp(Ipv4Addr::new(10, 96, 0, 10), 53),
                wrr.clone(),
            ),
            "-A --sctp-service 10.96.0.10:53 -s wrr",
        ),
        (plain(web6(), wrr.clone()), "-A -t [fd00::a]:80 -s wrr"),
        (
            plain(ServiceId::fwmark(7, Family::V4), wrr.clone()),
            "-A -f 7 -s wrr",
        ),
        (
            plain(ServiceId::fwmark(7, Family::V6), wrr.clone()),
            "-A -f 7 -6 -s wrr",
        ),
        (
            plain(ServiceId::fwmark(u32::MAX >> 2, Family::V4), wrr.clone()),
            "-A -f 1073741823 -s wrr",
        ),
        (
            plain(web(), wrr.clone()).persistent(300, Netmask::host(Family::V4)),
            "-A -t 10.96.0.10:80 -s wrr -p 300",
        ),
        (
            plain(web(), wrr.clone()).persistent(300, net24),
            "-A -t 10.96.0.10:80 -s wrr -p 300 -M 255.255.255.0",
        ),
        (
            plain(every_port, wrr.clone()).persistent(300, Netmask::host(Family::V4)),
            "-A -t 10.96.0.11:0 -s wrr -p 300",
        ),
        (
            plain(web6(), wrr.clone()).persistent(10_800, net64),
            "-A -t [fd00::a]:80 -s wrr -p 10800 -M 64",
        ),
        (sip, "-A -u 10.96.0.10:53 -s rr -p 360 --pe sip"),
        (
            plain(dns, wrr.clone()).with_flags(ServiceFlags::ONE_PACKET),
            "-A -u 10.96.0.10:53 -s wrr -o",
        ),
    ];
    let flagged = [
        (
            &sh,
            ServiceFlags::SH_FALLBACK,
            "-A -t 10.96.0.10:80 -s sh -b sh-fallback",
        ),
        (
            &sh,
            ServiceFlags::SH_PORT,
            "-A -t 10.96.0.10:80 -s sh -b sh-port",
        ),
        (
            &mh,
            ServiceFlags::MH_FALLBACK,
            "-A -t 10.96.0.10:80 -s mh -b mh-fallback",
        ),
        (
            &mh,
            ServiceFlags::MH_PORT,
            "-A -t 10.96.0.10:80 -s mh -b mh-port",
        ),
        (
            &wrr,
            ServiceFlags::SCHED1,
            "-A -t 10.96.0.10:80 -s wrr -b flag-1",
        ),
        (
            &wrr,
            ServiceFlags::SCHED2,
            "-A -t 10.96.0.10:80 -s wrr -b flag-2",
        ),
        (
            &wrr,
            ServiceFlags::SCHED3,
            "-A -t 10.96.0.10:80 -s wrr -b flag-3",
        ),
        (
            &wrr,
            ServiceFlags::SCHEDULER,
            "-A -t 10.96.0.10:80 -s wrr -b flag-1,flag-2,flag-3",
        ),
    ];
    for (scheduler, flags, rule) in flagged {
        cases.push((plain(web(), scheduler.clone()).with_flags(flags), rule));
    }
    cases
}

#[test]
fn ipvsadm_reads_the_services_we_write() {
    let _namespace = Namespace::enter();
    let mut client = client();
    for (service, rule) in cases() {
        client.add_service(&service).expect(rule);
        assert_eq!(saved(), [rule]);
        client.remove_service(&service.id).expect(rule);
        assert!(saved().is_empty(), "{rule} is gone");
    }
}

#[test]
fn we_read_the_services_ipvsadm_writes() {
    let _namespace = Namespace::enter();
    let mut client = client();
    for (service, rule) in cases() {
        restore(rule);
        let expected = reported(service);
        assert_eq!(
            client.services().expect(rule),
            std::slice::from_ref(&expected)
        );
        assert_eq!(client.service(&expected.id).expect(rule), expected);
        client.flush().expect(rule);
    }
}

/// A scheduler that this kernel has no module for is refused alike.
#[test]
fn ipvsadm_and_we_agree_about_every_scheduler() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let required = [
        "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq",
        "none",
    ];
    for name in required {
        assert_eq!(client.has_scheduler(&name.into()).ok(), Some(Some(true)));
        client
            .add_service(&Service::new(web(), name.into()))
            .expect(name);
        assert_eq!(saved(), [format!("-A -t 10.96.0.10:80 -s {name}")]);
        client.flush().expect(name);
    }
    for name in ["twos", "nosuch"] {
        let has = client.has_scheduler(&name.into()).expect("an answer");
        assert!(saved().is_empty(), "a question makes nothing");
        let ours = client.add_service(&Service::new(web(), name.into()));
        client.flush().expect(name);
        let rule = ["-A", "-t", "10.96.0.10:80", "-s", name];
        let theirs = std::process::Command::new("ipvsadm")
            .args(rule)
            .output()
            .expect("it runs");
        client.flush().expect(name);
        assert_eq!(ours.is_ok(), theirs.status.success(), "{name}: {ours:?}");
        assert_eq!(has, Some(ours.is_ok()), "{name}");
        if let Err(error) = ours {
            assert_eq!(error.errno(), Some(Errno::ENOENT));
            assert!(
                error
                    .hint()
                    .expect("known")
                    .contains(&format!("ip_vs_{name}"))
            );
        }
    }
}

#[test]
fn editing_a_service_changes_every_setting() {
    let _namespace = Namespace::enter();
    let mut client = client();
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    for (service, rule) in cases() {
        if service.id != web() {
            continue;
        }
        client.edit_service(&service).expect(rule);
        assert_eq!(saved(), [rule]);
    }
}

#[test]
fn flags_outside_the_mask_stay() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let both = ServiceFlags::MH_PORT | ServiceFlags::MH_FALLBACK;
    client
        .add_service(&Service::new(web(), Scheduler::MH).with_flags(both))
        .expect("added");

    let edit = Service {
        flags_mask: ServiceFlags::MH_PORT,
        ..Service::new(web(), Scheduler::MH)
    };
    client.edit_service(&edit).expect("edited");

    assert_eq!(saved(), ["-A -t 10.96.0.10:80 -s mh -b mh-fallback"]);
}

/// What was listed can be written again as it is.
#[test]
fn a_listed_service_can_be_restored() {
    let _namespace = Namespace::enter();
    let mut client = client();
    for (_, rule) in cases() {
        restore(rule);
        let listed = client.services().expect(rule).remove(0);
        client.flush().expect(rule);
        client.add_service(&listed).expect(rule);
        assert_eq!(saved(), [rule]);
        assert_eq!(client.service(&listed.id).expect(rule), listed);
        client.flush().expect(rule);
    }
}

#[test]
fn refusals_bear_the_errno_of_the_kernel() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let service = Service::new(web(), Scheduler::RR);
    let errno = |result: Result<(), ipvs_netlink::Error>| result.expect_err("refused").errno();

    assert_eq!(errno(client.edit_service(&service)), Some(Errno::ESRCH));
    assert_eq!(errno(client.remove_service(&web())), Some(Errno::ESRCH));
    assert_eq!(errno(client.service(&web()).map(drop)), Some(Errno::ESRCH));
    assert_eq!(errno(client.zero(Some(&web()))), Some(Errno::ESRCH));
    client.add_service(&service).expect("added");
    assert_eq!(errno(client.add_service(&service)), Some(Errno::EEXIST));
    assert_eq!(saved(), ["-A -t 10.96.0.10:80 -s rr"]);
}

#[test]
fn a_strange_protocol_does_no_harm() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let strange = ServiceId::address(Ipv4Addr::new(10, 96, 0, 10), 80, Protocol::Other(47));
    if client
        .add_service(&Service::new(strange, Scheduler::RR))
        .is_ok()
    {
        assert_eq!(client.services().expect("listed")[0].id, strange);
    }
    client.flush().expect("flushed");
    assert!(list(&mut client).is_empty());
}

fn list(client: &mut Client) -> Vec<ServiceId> {
    client
        .services()
        .expect("listed")
        .into_iter()
        .map(|service| service.id)
        .collect()
}

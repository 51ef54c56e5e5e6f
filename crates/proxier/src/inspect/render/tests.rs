//! Samples of ipvsadm 1.31 on a 6.1 kernel, line for line.

use ipvs_netlink::{
    Destination, DestinationId, Family, ForwardingMethod, Info, Netmask, Scheduler, Service,
    ServiceFlags, ServiceId, Stats, Tunnel, TunnelFlags, Version,
};

use super::*;

fn snapshot(services: Vec<(Service, Vec<Destination>)>) -> Snapshot {
    let info = Info {
        version: Version(0x1_02_01),
        conn_tab_size: 4096,
        ..Info::default()
    };
    Snapshot { info, services }
}

fn to(at: &str, forwarding: ForwardingMethod, weight: u32) -> Destination {
    let socket: std::net::SocketAddr = at.parse().unwrap();
    let id = DestinationId::new(socket.ip(), socket.port());
    Destination {
        forwarding,
        weight,
        ..Destination::new(id)
    }
}

fn listed(snapshot: &Snapshot, form: Form) -> String {
    let options = ListOptions {
        form,
        exact: false,
        sort: true,
        heading: true,
    };
    render(snapshot, &options, &Names::none())
}

fn samples() -> Snapshot {
    let mh = Service::new(ServiceId::tcp([10, 96, 0, 20], 80), Scheduler::MH)
        .with_flags(ServiceFlags::MH_PORT)
        .persistent(10800, Netmask::host(Family::V4));
    let sh = Service::new(ServiceId::tcp([10, 96, 0, 30], 443), Scheduler::SH)
        .with_flags(ServiceFlags::SH_FALLBACK | ServiceFlags::SH_PORT)
        .persistent(360, Netmask::from_prefix(Family::V4, 24));
    let six: std::net::Ipv6Addr = "fd00:10:96::a".parse().unwrap();
    let lc = Service::new(ServiceId::tcp(six, 80), Scheduler::LC);
    let mark = Service::new(ServiceId::fwmark(2, Family::V6), Scheduler::WLC);
    let busy = Destination {
        inactive_connections: 3,
        ..to("10.244.0.2:8080", ForwardingMethod::Masquerade, 1)
    };
    snapshot(vec![
        (mark, vec![]),
        (
            lc,
            vec![to(
                "[fd00:10:244:1:2:3:4:5]:8080",
                ForwardingMethod::Masquerade,
                100,
            )],
        ),
        (
            sh,
            vec![to("192.0.2.9:443", ForwardingMethod::DirectRoute, 5)],
        ),
        (mh, vec![busy]),
    ])
}

#[test]
fn the_default_listing() {
    assert_eq!(
        listed(&samples(), Form::Default),
        "IP Virtual Server version 1.2.1 (size=4096)\n\
         Prot LocalAddress:Port Scheduler Flags\n\
         \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
         TCP  10.96.0.20:80 mh (mh-port) persistent 10800\n\
         \x20 -> 10.244.0.2:8080              Masq    1      0          3         \n\
         TCP  10.96.0.30:443 sh (sh-fallback,sh-port) persistent 360 mask 255.255.255.0\n\
         \x20 -> 192.0.2.9:443                Route   5      0          0         \n\
         TCP  [fd00:10:96::a]:80 lc\n\
         \x20 -> [fd00:10:244:1:2:3:4:5]:8080 Masq    100    0          0         \n\
         FWM  2 IPv6 wlc\n"
    );
}

#[test]
fn rules_that_restore_reads() {
    assert_eq!(
        listed(&samples(), Form::Rules),
        "-A -t 10.96.0.20:80 -s mh -p 10800 -b mh-port\n\
         -a -t 10.96.0.20:80 -r 10.244.0.2:8080 -m -w 1\n\
         -A -t 10.96.0.30:443 -s sh -p 360 -M 255.255.255.0 -b sh-fallback,sh-port\n\
         -a -t 10.96.0.30:443 -r 192.0.2.9:443 -g -w 5\n\
         -A -t [fd00:10:96::a]:80 -s lc\n\
         -a -t [fd00:10:96::a]:80 -r [fd00:10:244:1:2:3:4:5]:8080 -m -w 100\n\
         -A -f 2 -6 -s wlc\n"
    );
}

#[test]
fn counts_and_tunnels() {
    let stats = Stats {
        connections: 7,
        in_packets: 40,
        out_packets: 37,
        in_bytes: 2568,
        out_bytes: 3258,
        ..Stats::default()
    };
    let service = Service {
        stats,
        ..Service::new(ServiceId::tcp([10, 96, 0, 1], 80), Scheduler::RR)
    };
    let tunnel = Destination {
        tunnel: Tunnel::gue(6080, TunnelFlags::CHECKSUM),
        ..to("10.1.1.2:80", ForwardingMethod::Tunnel, 1)
    };
    let snapshot = snapshot(vec![(service, vec![tunnel])]);
    let counts = listed(&snapshot, Form::Stats);
    assert_eq!(
        counts.lines().nth(3),
        Some("TCP  10.96.0.1:80                        7       40       37     2568     3258")
    );
    let tunnels = listed(&snapshot, Form::Tunnels);
    assert_eq!(
        tunnels.lines().nth(4),
        Some(
            "  -> 10.1.1.2:80                  Tunnel  gue:6080:+c   1      0          0         "
        )
    );
    assert!(listed(&snapshot, Form::Rules).ends_with(
        "-a -t 10.96.0.1:80 -r 10.1.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n"
    ));
}

#[test]
fn names_are_cut_where_ipvsadm_cuts_them() {
    let long = "a-very-long-name-of-a-host.example.org";
    let names = crate::inspect::names::tests::host(
        "http 80/tcp\nalt 8080/tcp\n",
        &[
            ("10.96.0.20", long),
            ("10.244.0.2", long),
            ("10.1.1.2", "back"),
        ],
    );
    let front = Service::new(ServiceId::tcp([10, 96, 0, 20], 80), Scheduler::RR);
    let mark = Service::new(ServiceId::fwmark(7, Family::V4), Scheduler::RR);
    let masquerade = ForwardingMethod::Masquerade;
    let snapshot = snapshot(vec![
        (front, vec![to("10.244.0.2:8080", masquerade, 1)]),
        (mark, vec![to("10.1.1.2:8080", masquerade, 1)]),
    ]);
    let options = |form| ListOptions {
        form,
        exact: false,
        sort: true,
        heading: false,
    };
    let listing = render(&snapshot, &options(Form::Thresholds), &names);
    let lines: Vec<_> = listing.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "TCP  a-very-long-name-of-a-host.e rr",
            "  -> a-very-long-name-of-a-host.e 0          0          0          0         ",
            "FWM  7 rr",
            "  -> back:8080                    0          0          0          0         ",
        ]
    );
    assert_eq!(
        render(&snapshot, &options(Form::Rules), &names),
        format!(
            "-A -t {long}:http -s rr\n\
             -a -t {long}:http -r {long}:alt -m -w 1\n\
             -A -f 7 -s rr\n\
             -a -f 7 -r back:8080 -m -w 1\n"
        )
    );
}

#[test]
fn flags_without_a_name_and_an_engine_without_persistence() {
    let third = Service::new(ServiceId::tcp([10, 96, 0, 20], 80), Scheduler::SH)
        .with_flags(ServiceFlags::SCHED3);
    let engine = Service {
        pe_name: Some("sip".to_owned()),
        ..Service::new(ServiceId::udp([10, 96, 0, 21], 5060), Scheduler::RR)
    };
    let snapshot = snapshot(vec![(third, vec![]), (engine, vec![])]);
    let listing = listed(&snapshot, Form::Default);
    let lines: Vec<_> = listing.lines().skip(3).collect();
    assert_eq!(
        lines,
        ["TCP  10.96.0.20:80 sh ()", "UDP  10.96.0.21:5060 rr"]
    );
    assert_eq!(
        listed(&snapshot, Form::Rules),
        "-A -t 10.96.0.20:80 -s sh -b \n-A -u 10.96.0.21:5060 -s rr --pe sip\n"
    );
}

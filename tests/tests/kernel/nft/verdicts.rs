//! Who gets through: guard, refusal, source ranges, drop for outside.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_ipvs_nft::{Config, Family, LocalPods, Set, Unallocated};
use socket2::{Domain, Socket, Type};

use super::lab::{Content, Fate, Lab, Netns, Said, ask, carries};

/// TCP 80 and UDP 53 are Service ports of the VIP; the node listens on 22 and 69 as well.
fn guarded(family: Family) -> Lab {
    let lab = Lab::new(family);
    lab.apply(&lab.config(), &served(&lab));
    for port in [53, 69] {
        lab.echo(port);
    }
    lab
}

fn served(lab: &Lab) -> Content {
    Content::from([
        (Said::In(Set::Vips), lab.vip().to_string()),
        (Said::Served, lab.front("tcp", 80)),
        (Said::Served, lab.front("udp", 53)),
    ])
}

/// The same, and this.
fn and<const N: usize>(mut content: Content, more: [(Said, String); N]) -> Content {
    content.extend(more);
    content
}

fn both(test: impl Fn(Family)) {
    Family::ALL.into_iter().for_each(test);
}

#[test]
fn only_service_ports_of_a_vip_answer() {
    both(|family| {
        let lab = guarded(family);
        let _listeners = [22, 80].map(|port| lab.listen(port));
        let vip = lab.vip();

        for (who, netns) in [("peer", &lab.peer), ("node", &lab.node)] {
            assert_eq!(netns.tcp(vip, 80), Fate::Passed, "{who} {family}");
            assert_eq!(netns.tcp(vip, 22), Fate::Refused, "{who} {family}");
            assert_eq!(netns.udp(vip, 53), Fate::Passed, "{who} {family}");
            assert_eq!(netns.udp(vip, 69), Fate::Refused, "{who} {family}");
            assert_eq!(
                netns.tcp(lab.node_address(), 22),
                Fate::Passed,
                "{who} {family}"
            );
            assert_eq!(
                netns.udp(lab.node_address(), 69),
                Fate::Passed,
                "{who} {family}"
            );
        }
    });
}

#[test]
fn without_the_table_every_host_port_would_answer() {
    let lab = guarded(Family::Ip);
    let _listener = lab.listen(22);
    lab.node.nft("delete table ip kube-ipvs");

    assert_eq!(lab.peer.tcp(lab.vip(), 22), Fate::Passed);
}

#[test]
fn a_vip_answers_ping() {
    both(|family| {
        let lab = guarded(family);

        assert_eq!(lab.peer.ping(lab.vip()), Fate::Passed, "{family}");
        assert_eq!(lab.node.ping(lab.vip()), Fate::Passed, "{family}");
    });
}

#[test]
fn a_vip_as_source_gets_its_answers() {
    both(|family| {
        let lab = guarded(family);
        let source = SocketAddr::new(lab.vip(), 0);

        let (_, answer) = lab.ask_peer(source, 69, 0);

        assert_eq!(answer.expect("answered"), 6, "{family}");
    });
}

#[test]
fn an_established_connection_outlives_its_port() {
    both(|family| {
        let lab = guarded(family);
        let listener = lab.listen(80);
        let mut client = lab.peer.connect(lab.vip(), 80).expect("open");
        let (mut server, _) = listener.accept().expect("accept");
        let without = Content::from([
            (Said::In(Set::Vips), lab.vip().to_string()),
            (Said::Refused, lab.front("tcp", 80)),
        ]);

        lab.apply(&lab.config(), &without);

        assert!(carries(&mut client, &mut server), "{family}");
        assert!(carries(&mut server, &mut client), "{family}");
        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Refused, "{family}");
    });
}

/// From a port of the peer's own, to TCP 80 of the VIP.
fn call_from(lab: &Lab, port: u16) -> io::Result<Socket> {
    let from = lab.any(port);
    let to = SocketAddr::new(lab.vip(), 80);
    lab.peer.run(|| {
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
        Ok(socket)
    })
}

/// The client has forgotten its connection; conntrack and the server have not.
#[test]
fn a_syn_is_judged_whatever_conntrack_still_knows() {
    both(|family| {
        let lab = guarded(family);
        let listener = lab.listen(80);
        let client = call_from(&lab, 4000).expect("open");
        let _server = listener.accept().expect("accept");
        lab.peer.nft(
            "table inet mute { chain output { type filter hook output priority 0; \
             tcp flags & (fin | rst) != 0 drop; }; }",
        );
        client
            .set_linger(Some(Duration::ZERO))
            .expect("no good-bye");
        drop(client);
        lab.peer.nft("delete table inet mute");
        lab.node.nft(
            "table inet passed { chain input { type filter hook input priority 20; \
             tcp dport 80 tcp flags & (syn | ack) == syn counter; }; }",
        );
        let passed = |count| {
            let listing = lab.node.nft("list table inet passed");
            listing.contains(&format!("counter packets {count} "))
        };
        let refused = and(served(&lab), [(Said::Refused, lab.front("tcp", 80))]);
        lab.apply(&lab.config(), &refused);

        let error = call_from(&lab, 4000).expect_err("the front is refused");

        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{family}");
        assert!(passed(0), "{family}");

        lab.apply(&lab.config(), &served(&lab));
        call_from(&lab, 4001).expect("served again");
        assert!(passed(1), "{family}");
    });
}

#[test]
fn a_datagram_flow_does_not_outlive_its_port() {
    both(|family| {
        let lab = guarded(family);
        let any = lab.any(4000);
        let socket = lab
            .peer
            .run(|| std::net::UdpSocket::bind(any))
            .expect("bind");
        let target = SocketAddr::new(lab.vip(), 53);
        ask(&socket, target, Fate::Passed).expect("served");

        lab.apply(
            &lab.config(),
            &Content::from([(Said::In(Set::Vips), lab.vip().to_string())]),
        );

        let error = ask(&socket, target, Fate::Refused).expect_err("the host's own port 53");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{family}");
    });
}

#[test]
fn a_front_without_endpoints_refuses_everybody_at_once() {
    both(|family| {
        let lab = guarded(family);
        let _listener = lab.listen(80);
        let node_port = format!("{} . tcp . 80", lab.node_address());
        let rejecting = and(
            served(&lab),
            [
                (Said::Refused, lab.front("tcp", 80)),
                (Said::Refused, lab.front("udp", 53)),
                (Said::Refused, node_port),
            ],
        );

        lab.apply(&lab.config(), &rejecting);

        for (who, netns) in [("peer", &lab.peer), ("node", &lab.node)] {
            assert_eq!(netns.tcp(lab.vip(), 80), Fate::Refused, "{who} {family}");
            assert_eq!(netns.udp(lab.vip(), 53), Fate::Refused, "{who} {family}");
            assert_eq!(
                netns.tcp(lab.node_address(), 80),
                Fate::Refused,
                "{who} {family}"
            );
        }
    });
}

#[test]
fn only_allowed_sources_reach_a_restricted_front() {
    both(|family| {
        let lab = guarded(family);
        let _listener = lab.listen(80);
        let length = if family == Family::Ip { 31 } else { 127 };
        let allow = |address: std::net::IpAddr| {
            let net = ipnet::IpNet::new(address, length)
                .expect("a length")
                .trunc();
            and(
                served(&lab),
                [
                    (Said::Restricted, lab.front("tcp", 80)),
                    (Said::Restricted, lab.front("udp", 53)),
                    (
                        Said::In(Set::AllowedSources),
                        format!("{} . {net}", lab.front("tcp", 80)),
                    ),
                    (
                        Said::In(Set::AllowedSources),
                        format!("{} . {net}", lab.front("udp", 53)),
                    ),
                ],
            )
        };

        lab.apply(&lab.config(), &allow(lab.peer_address()));
        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Passed, "{family}");
        assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed, "{family}");
        assert_eq!(
            lab.node.expecting(Fate::Dropped).tcp(lab.vip(), 80),
            Fate::Dropped,
            "{family}"
        );

        // The node's source towards a VIP it holds is the VIP.
        lab.apply(&lab.config(), &allow(lab.vip()));
        assert_eq!(
            lab.peer.expecting(Fate::Dropped).tcp(lab.vip(), 80),
            Fate::Dropped,
            "{family}"
        );
        assert_eq!(
            lab.peer.expecting(Fate::Dropped).udp(lab.vip(), 53),
            Fate::Dropped,
            "{family}"
        );
        assert_eq!(lab.node.tcp(lab.vip(), 80), Fate::Passed, "{family}");
        assert_eq!(lab.node.udp(lab.vip(), 53), Fate::Passed, "{family}");
    });
}

#[test]
fn drop_for_outside_spares_pods_and_the_host() {
    both(|family| {
        let lab = guarded(family);
        let _listener = lab.listen(80);
        let local_only = and(served(&lab), [(Said::Outside, lab.front("tcp", 80))]);
        let peer: ipnet::IpNet = lab.peer_address().into();
        let other: ipnet::IpNet = lab.vip().into();
        for (local_pods, from_peer) in [
            (LocalPods::None, Fate::Dropped),
            (LocalPods::Cidrs(vec![other]), Fate::Dropped),
            (LocalPods::Cidrs(vec![other, peer]), Fate::Passed),
            (LocalPods::InterfacePrefix("vet".into()), Fate::Passed),
            (LocalPods::InterfacePrefix("eth".into()), Fate::Dropped),
            (LocalPods::Bridge("veth0".into()), Fate::Passed),
            (LocalPods::Bridge("veth".into()), Fate::Dropped),
        ] {
            let config = Config {
                local_pods,
                ..lab.config()
            };

            lab.apply(&config, &local_only);

            let peer = lab.peer.expecting(from_peer);
            assert_eq!(peer.tcp(lab.vip(), 80), from_peer, "{config:?}");
            assert_eq!(lab.node.tcp(lab.vip(), 80), Fate::Passed, "{config:?}");
        }
    });
}

/// A front may be at an address that is not this host's: a gateway's, another
/// node's.
#[test]
fn what_this_host_sends_to_a_front_elsewhere_is_from_inside() {
    both(|family| {
        let lab = Lab::new(family);
        let any = lab.any(80);
        let _far = lab
            .peer
            .run(|| std::net::TcpListener::bind(any))
            .expect("listen");
        let front = format!("{} . tcp . 80", lab.peer_address());

        lab.apply(&lab.config(), &Content::from([(Said::Outside, front)]));

        assert_eq!(
            lab.node.tcp(lab.peer_address(), 80),
            Fate::Passed,
            "{family}"
        );
    });
}

/// A lab whose node forwards cluster addresses to a router beyond it, which
/// answers at one that no Service has.
fn with_a_router(family: Family) -> (Lab, Netns, IpAddr) {
    let (lab, router) = (Lab::new(family), Netns::new());
    lab.attach(&router, "veth1", "192.168.60");
    lab.node.ip("addr add fd00:60::1/64 dev veth1 nodad");
    router.ip("addr add fd00:60::2/64 dev eth0 nodad");
    router.ip("addr add 10.96.77.7/32 dev lo");
    router.ip("addr add fd00:96::77/128 dev lo nodad");
    for (netns, net, via) in [
        (&lab.node, "10.96.0.0/16", "192.168.60.2"),
        (&lab.node, "fd00:96::/64", "fd00:60::2"),
        (&router, "192.168.50.0/24", "192.168.60.1"),
        (&router, "fd00:50::/64", "fd00:60::1"),
    ] {
        netns.ip(&format!("route add {net} via {via}"));
    }
    lab.node.run(|| {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{switch}"), "1").expect("forward");
        }
    });
    let nobodys = match family {
        Family::Ip => "10.96.77.7",
        Family::Ip6 => "fd00:96::77",
    };
    (lab, router, nobodys.parse().expect("an address"))
}

#[test]
fn a_cluster_address_that_no_service_has_leads_nowhere() {
    both(|family| {
        let (lab, router, nobodys) = with_a_router(family);
        let any = lab.any(80);
        let _far = router
            .run(|| std::net::TcpListener::bind(any))
            .expect("listen");
        let _here = lab.listen(80);
        let net = match family {
            Family::Ip => "10.96.0.0/16",
            Family::Ip6 => "fd00:96::/64",
        };
        let elements = and(
            served(&lab),
            [(Said::In(Set::ServiceCidrs), net.to_owned())],
        );
        for (unallocated, fate) in [
            (Unallocated::Forward, Fate::Passed),
            (Unallocated::Reject, Fate::Refused),
            (Unallocated::Drop, Fate::Dropped),
        ] {
            let config = Config {
                unallocated,
                ..lab.config()
            };

            lab.apply(&config, &elements);

            for (who, netns) in [("peer", &lab.peer), ("node", &lab.node)] {
                let told = format!("{who} {family} {unallocated:?}");
                assert_eq!(netns.expecting(fate).tcp(nobodys, 80), fate, "{told}");
                assert_eq!(netns.tcp(lab.vip(), 80), Fate::Passed, "{told}");
                assert_eq!(netns.tcp(lab.vip(), 22), Fate::Refused, "{told}");
            }
            if unallocated == Unallocated::Reject {
                assert_eq!(lab.peer.udp(nobodys, 53), Fate::Refused, "{family}");
            }
        }
        // When the ServiceCIDR goes the address is like any other.
        lab.apply(&lab.config(), &served(&lab));
        assert_eq!(lab.peer.tcp(nobodys, 80), Fate::Passed, "{family}");
    });
}

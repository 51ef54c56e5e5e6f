//! Who gets through: guard, refusal, source ranges, drop for outside.

use kube_ipvs_nft::{Config, Elements, Family, LocalPods, Set};

use super::lab::{Fate, Lab, carries, elements};

/// TCP 80 and UDP 53 are Service ports of the VIP; the node listens on 22 and 69 as well.
fn guarded(family: Family) -> Lab {
    let lab = Lab::new(family);
    lab.apply(&lab.config(), &served(&lab));
    for port in [53, 69] {
        lab.echo(port);
    }
    lab
}

fn served(lab: &Lab) -> Elements {
    elements([
        (Set::Vips, lab.vip().to_string()),
        (Set::ServicePorts, lab.front("tcp", 80)),
        (Set::ServicePorts, lab.front("udp", 53)),
    ])
}

/// The same, and this.
fn and<const N: usize>(mut elements: Elements, more: [(Set, String); N]) -> Elements {
    for (set, text) in more {
        elements.entry(set).or_default().insert(text);
    }
    elements
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
        let source = std::net::SocketAddr::new(lab.vip(), 0);

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
        let without = elements([
            (Set::Vips, lab.vip().to_string()),
            (Set::Reject, lab.front("tcp", 80)),
        ]);

        lab.apply(&lab.config(), &without);

        assert!(carries(&mut client, &mut server), "{family}");
        assert!(carries(&mut server, &mut client), "{family}");
        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Refused, "{family}");
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
        let target = std::net::SocketAddr::new(lab.vip(), 53);
        super::lab::ask(&socket, target).expect("served");

        lab.apply(
            &lab.config(),
            &elements([(Set::Vips, lab.vip().to_string())]),
        );

        let error = super::lab::ask(&socket, target).expect_err("the host's own port 53");
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{family}"
        );
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
                (Set::Reject, lab.front("tcp", 80)),
                (Set::Reject, lab.front("udp", 53)),
                (Set::Reject, node_port),
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
                    (Set::Restricted, lab.front("tcp", 80)),
                    (Set::Restricted, lab.front("udp", 53)),
                    (
                        Set::AllowedSources,
                        format!("{} . {net}", lab.front("tcp", 80)),
                    ),
                    (
                        Set::AllowedSources,
                        format!("{} . {net}", lab.front("udp", 53)),
                    ),
                ],
            )
        };

        lab.apply(&lab.config(), &allow(lab.peer_address()));
        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Passed, "{family}");
        assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed, "{family}");
        assert_eq!(lab.node.tcp(lab.vip(), 80), Fate::Dropped, "{family}");

        // The node's source towards a VIP it holds is the VIP.
        lab.apply(&lab.config(), &allow(lab.vip()));
        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Dropped, "{family}");
        assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Dropped, "{family}");
        assert_eq!(lab.node.tcp(lab.vip(), 80), Fate::Passed, "{family}");
        assert_eq!(lab.node.udp(lab.vip(), 53), Fate::Passed, "{family}");
    });
}

#[test]
fn drop_for_outside_spares_pods_and_the_host() {
    both(|family| {
        let lab = guarded(family);
        let _listener = lab.listen(80);
        let local_only = and(served(&lab), [(Set::DropOutside, lab.front("tcp", 80))]);
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

            assert_eq!(lab.peer.tcp(lab.vip(), 80), from_peer, "{config:?}");
            assert_eq!(lab.node.tcp(lab.vip(), 80), Fate::Passed, "{config:?}");
        }
    });
}

//! Marks for IPVS and for masquerading: set in time, right, and taken off again.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use kube_ipvs_nft::{Config, Family, LocalPods, Set, TableChange, render_change};

use super::lab::{Content, Fate, Lab, Said, ask, said};

/// Notes the marks of datagrams: where IPVS would take them, and where they leave.
/// Of datagrams only: the kernel's own MLD reports carry a mark of chance.
fn watch(lab: &Lab) {
    let family = lab.family;
    lab.node.nft(&format!(
        "table {family} watch {{
            set at-ipvs {{ type mark; flags dynamic; }}
            set leaving {{ type mark; flags dynamic; }}
            chain in {{ type filter hook input priority 97; iif != lo meta l4proto udp add @at-ipvs {{ meta mark }}; }}
            chain out {{ type filter hook output priority -100; oif != lo meta l4proto udp add @at-ipvs {{ meta mark }}; }}
            chain post {{ type filter hook postrouting priority 200; meta l4proto udp add @leaving {{ meta mark }}; }}
        }}"
    ));
}

/// The marks that were seen since the last look.
fn seen(lab: &Lab, set: &str) -> Vec<u32> {
    let family = lab.family;
    let text = lab.node.nft(&format!("list set {family} watch {set}"));
    lab.node.nft(&format!("flush set {family} watch {set}"));
    let hex = |word: &str| {
        u32::from_str_radix(word.trim_matches([',', '}']).strip_prefix("0x")?, 16).ok()
    };
    text.split_whitespace().filter_map(hex).collect()
}

fn pods(lab: &Lab, known: bool) -> Config {
    let local_pods = if known {
        LocalPods::Cidrs(vec![lab.peer_address().into()])
    } else {
        LocalPods::Cidrs(vec![lab.vip().into()])
    };
    Config {
        local_pods,
        ..lab.config()
    }
}

fn served_as(lab: &Lab, more: &[(Said, String)]) -> Content {
    let mut all = Content::from([
        (Said::In(Set::Vips), lab.vip().to_string()),
        (Said::Served, lab.front("udp", 53)),
    ]);
    all.extend(more.iter().cloned());
    all
}

#[test]
fn each_source_gets_the_mark_of_its_front() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        lab.echo(53);
        watch(&lab);
        let front = lab.front("udp", 53);
        let inside = (Said::In(Set::InsideMarks), format!("{front} : 0x00000123"));
        let all = (
            Said::In(Set::NodePortMarks),
            format!("{front} : 0x00004456"),
        );
        let always = (Said::Always, front.clone());
        let off_cluster = (Said::OffCluster, front);
        for (what, more, peer_is_pod, mark) in [
            ("nothing", vec![], false, 0),
            ("inside mark, pod", vec![inside.clone()], true, 0x123),
            ("inside mark, outside", vec![inside.clone()], false, 0),
            ("masquerade, pod", vec![always.clone()], true, 0x4000),
            ("masquerade, outside", vec![always.clone()], false, 0x4000),
            ("off-cluster, pod", vec![off_cluster.clone()], true, 0),
            (
                "off-cluster, outside",
                vec![off_cluster.clone()],
                false,
                0x4000,
            ),
            // IPVS compares the whole mark: the inside mark stays alone.
            (
                "both, pod",
                vec![inside.clone(), always.clone()],
                true,
                0x123,
            ),
            (
                "both, outside",
                vec![inside.clone(), always.clone()],
                false,
                0x4000,
            ),
            ("mark of all, pod", vec![all.clone()], true, 0x4456),
            ("mark of all, outside", vec![all.clone()], false, 0x4456),
            (
                "mark of all and inside mark, pod",
                vec![all.clone(), inside.clone()],
                true,
                0x123,
            ),
            (
                "mark of all and inside mark, outside",
                vec![all.clone(), inside],
                false,
                0x4456,
            ),
            // The mark contains the masquerade bit already.
            ("mark of all, masqueraded", vec![all, always], false, 0x4456),
        ] {
            lab.apply(&pods(&lab, peer_is_pod), &served_as(&lab, &more));
            seen(&lab, "at-ipvs");

            assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed, "{what} {family}");

            let marks = seen(&lab, "at-ipvs");
            assert!(marks.contains(&mark), "{what} {family}: {marks:x?}");
            let other = |seen: &&u32| ![0, mark].contains(seen);
            assert_eq!(
                marks.iter().find(other),
                None,
                "{what} {family}: {marks:x?}"
            );
        }
    }
}

#[test]
fn the_first_mark_works_at_once_and_the_last_takes_its_chain_away() {
    let lab = Lab::new(Family::Ip);
    lab.echo(53);
    watch(&lab);
    let config = pods(&lab, true);
    let mark = format!("{} : 0x00000123", lab.front("udp", 53));
    let unmarked = served_as(&lab, &[]);
    let marked = served_as(&lab, &[(Said::In(Set::InsideMarks), mark)]);
    lab.apply(&config, &unmarked);
    for (from, to, mark) in [(&unmarked, &marked, 0x123), (&marked, &unmarked, 0)] {
        let change = TableChange::between(&said(from), &said(to));
        let commands = render_change(&config, &change, |_| false).expect("valid");
        lab.apply_commands(&commands);
        seen(&lab, "at-ipvs");

        assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed);

        let marks = seen(&lab, "at-ipvs");
        assert!(marks.contains(&mark), "{marks:x?}");
        let chains = lab.node.nft("list chains ip");
        assert_eq!(chains.contains("before-ipvs"), mark != 0, "{chains}");
    }
}

#[test]
fn the_accept_bit_never_reaches_ipvs() {
    let lab = Lab::new(Family::Ip);
    lab.echo(53);
    watch(&lab);
    let config = Config {
        accept_bit: Some(12),
        ..pods(&lab, true)
    };
    let mark = (
        Said::In(Set::InsideMarks),
        format!("{} : 0x00000123", lab.front("udp", 53)),
    );

    lab.apply(&config, &served_as(&lab, &[]));
    assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed);
    assert_eq!(seen(&lab, "at-ipvs"), [0]);

    lab.apply(&config, &served_as(&lab, &[mark]));
    assert_eq!(lab.peer.udp(lab.vip(), 53), Fate::Passed);
    assert!(seen(&lab, "at-ipvs").contains(&0x123));
}

/// The node asks from fixed ports, below the range for masquerading.
const PORT: u16 = 2000;

fn masqueraded(lab: &Lab, from: SocketAddr, port: u16) -> bool {
    let kept = from.port() == port;
    assert!(
        kept || from.port() > 32767,
        "{from}: a NodePort's number, or a low one"
    );
    assert!(
        kept || from.ip() == lab.node_address(),
        "{from}: not the node"
    );
    !kept
}

#[test]
fn the_hosts_own_traffic_is_masqueraded_when_it_must() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        watch(&lab);
        let to_peer = format!("{} . udp . 53", lab.peer_address());
        let (vip, node) = (lab.vip(), lab.node_address());
        let hairpin = (Said::In(Set::Hairpin), lab.node_address().to_string());
        let mark = |value: &str| {
            (
                Said::In(Set::InsideMarks),
                format!("{} : {value}", lab.front("udp", 53)),
            )
        };
        let cases = [
            ("node address", node, 0, vec![], false),
            ("VIP as source", vip, 0, vec![], true),
            (
                "masqueraded front",
                node,
                0,
                vec![(Said::Always, to_peer.clone())],
                true,
            ),
            (
                "off-cluster front",
                node,
                0,
                vec![(Said::OffCluster, to_peer.clone())],
                false,
            ),
            (
                "hairpin address towards another",
                node,
                0,
                vec![hairpin],
                false,
            ),
            (
                "re-emitted by IPVS",
                node,
                0x123,
                vec![mark("0x00000123")],
                true,
            ),
            (
                "another's mark",
                node,
                0x124,
                vec![mark("0x00000123")],
                false,
            ),
        ];
        for ((what, source, so_mark, more, expected), port) in cases.into_iter().zip(PORT..) {
            // A port of its own: conntrack remembers what was decided for a flow.
            let source = SocketAddr::new(source, port);
            lab.apply(&lab.config(), &served_as(&lab, &more));
            seen(&lab, "leaving");

            let (from, answer) = lab.ask_peer(source, 53, so_mark);

            assert_eq!(answer.expect("answered"), 6, "{what} {family}");
            assert_eq!(
                masqueraded(&lab, from, port),
                expected,
                "{what} {family}: {from}"
            );
            let kept = if so_mark == 0x124 { 0x124 } else { 0 };
            let left = seen(&lab, "leaving");
            let other = |seen: &&u32| ![0, kept].contains(seen);
            assert_eq!(left.iter().find(other), None, "{what} {family}: {left:x?}");
            assert!(left.contains(&kept), "{what} {family}: {left:x?}");
        }
    }
}

#[test]
fn what_stays_on_the_host_is_not_masqueraded() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let front = lab.front("udp", 53);
        lab.apply(&lab.config(), &served_as(&lab, &[(Said::Always, front)]));
        let target = SocketAddr::new(lab.vip(), 53);
        let server = lab.node.run(|| UdpSocket::bind(target)).expect("bind");
        let source = SocketAddr::new(lab.node_address(), PORT);
        let client = lab.node.run(|| UdpSocket::bind(source)).expect("bind");

        client.send_to(b"ask", target).expect("send");

        let (_, from) = server.recv_from(&mut [0; 8]).expect("asked");
        assert_eq!(from, source, "{family}");
    }
}

#[test]
fn a_pod_that_meets_itself_is_masqueraded() {
    // IPVS would translate the destination; here the node routes it back.
    let lab = Lab::new(Family::Ip);
    lab.node
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .expect("forwarding");
    lab.node
        .run(|| std::fs::write("/proc/sys/net/ipv4/conf/veth0/send_redirects", "0"))
        .expect("quiet");
    lab.node.nft("table ip far { chain pre { type nat hook prerouting priority -100; ip daddr 10.97.0.1 dnat to 192.168.50.2; }; }");
    lab.peer.ip("route add 10.97.0.0/16 via 192.168.50.1");
    let pod: IpAddr = lab.peer_address();
    lab.apply(
        &lab.config(),
        &Content::from([(Said::In(Set::Hairpin), pod.to_string())]),
    );
    let listener = lab
        .peer
        .run(|| TcpListener::bind(lab.any(80)))
        .expect("listen");

    assert_eq!(
        lab.peer.tcp("10.97.0.1".parse().expect("an address"), 80),
        Fate::Passed
    );

    let (_, from) = listener.accept().expect("accept");
    assert_eq!(from.ip(), lab.node_address());
    assert!(from.port() > 32767, "{from}");
    let socket = lab.peer.run(|| UdpSocket::bind(lab.any(0))).expect("bind");
    // Without the element the pod would see itself, and the answer would not come back.
    lab.apply(&lab.config(), &Content::new());
    assert!(
        ask(
            &socket,
            SocketAddr::new("10.97.0.1".parse().expect("an address"), 81),
            Fate::Dropped
        )
        .is_err()
    );
    assert_eq!(
        lab.peer
            .expecting(Fate::Dropped)
            .tcp("10.97.0.1".parse().expect("an address"), 80),
        Fate::Dropped
    );
}

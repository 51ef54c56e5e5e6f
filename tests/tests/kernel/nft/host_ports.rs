//! What CNI's portmap does for a pod with `hostPort`, beside our table.

use std::net::{IpAddr, SocketAddr, TcpListener};

use kube_ipvs_nft::{Family, Set};

use super::lab::{Content, Lab, Netns, Said};

const HOST_PORTS: [u16; 2] = [80, 81];
const POD: u16 = 9000;

/// Takes two ports of all local addresses; where they lead stands in for the pod.
fn portmap(lab: &Lab) {
    let chain = |hook: &str| {
        let [first, second] = HOST_PORTS;
        format!(
            "chain {hook} {{\n type nat hook {hook} priority -100;
             fib daddr type local tcp dport {{ {first}, {second} }} dnat to {}\n }}\n",
            SocketAddr::new(lab.node_address(), POD)
        )
    };
    let chains = [chain("prerouting"), chain("output")].concat();
    lab.node
        .nft(&format!("table {} host-ports {{\n{chains}}}", lab.family));
}

/// The one of these listeners that a call reaches; none when it is refused.
fn reached(client: &Netns, address: IpAddr, port: u16, listeners: &[TcpListener]) -> Option<u16> {
    let _connection = client.connect(address, port).ok()?;
    let at = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    // A connection that was made waits at its listener.
    let waits = |listener: &&TcpListener| listener.accept().is_ok();
    listeners.iter().find(waits).map(at)
}

#[test]
fn a_nat_chain_of_others_moves_nothing_that_is_for_a_vip() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let listeners = [HOST_PORTS[0], HOST_PORTS[1], POD].map(|port| lab.listen(port));
        for listener in &listeners {
            listener.set_nonblocking(true).expect("set");
        }
        portmap(&lab);
        let [served, other] = HOST_PORTS;
        let content = Content::from([
            (Said::In(Set::Vips), lab.vip().to_string()),
            (Said::Served, lab.front("tcp", served)),
        ]);

        for client in [&lab.peer, &lab.node] {
            let reached = |address, port| reached(client, address, port, &listeners);
            assert_eq!(reached(lab.vip(), served), Some(POD), "without our table");
        }
        lab.apply(&lab.config(), &content);

        for client in [&lab.peer, &lab.node] {
            let reached = |address, port| reached(client, address, port, &listeners);
            assert_eq!(reached(lab.vip(), served), Some(served), "{family}");
            assert_eq!(reached(lab.vip(), other), None, "{family}: no front");
            for port in HOST_PORTS {
                assert_eq!(reached(lab.node_address(), port), Some(POD), "{family}");
            }
        }
    }
}

/// A proxy that serves by nat alone binds no VIP; while it and our table are both
/// there (it came, and ours was not cleaned up) it has the say.
#[test]
fn a_vip_that_is_not_bound_here_is_left_to_another_proxy() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let listeners = [lab.listen(POD)];
        listeners[0].set_nonblocking(true).expect("set");
        let [served, _] = HOST_PORTS;
        let to = SocketAddr::new(lab.node_address(), POD);
        let vip = lab.vip();
        lab.node.nft(&format!(
            "table {family} other-proxy {{ chain prerouting {{ type nat hook prerouting priority -100;
             {family} daddr {vip} tcp dport {served} dnat to {to}; }}; }}"
        ));
        let content = Content::from([
            (Said::In(Set::Vips), vip.to_string()),
            (Said::Served, lab.front("tcp", served)),
        ]);
        lab.apply(&lab.config(), &content);
        let reached = || reached(&lab.peer, vip, served, &listeners);
        assert_eq!(reached(), None, "{family}: bound, and nobody listens");

        let length = match family {
            Family::Ip => 32,
            Family::Ip6 => 128,
        };
        lab.node.ip(&format!("addr del {vip}/{length} dev lo"));

        assert_eq!(reached(), Some(POD), "{family}");
    }
}

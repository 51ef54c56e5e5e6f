//! Who answers, and with whose address, for every kind of front and policy,
//! wherever the endpoints and the client are.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::{Endpoint, Service};
use crate::row::{Masquerade, Verdict};
use crate::state::{Front, KernelState, VirtualServerKey};
use crate::{FrontKind, NodePortServers};

/// `here` and `there` are the endpoints on this node and on another; `+snat`
/// means that they see the node's address, not the client's.
const TABLE: &str = "
kind          policy   endpoints              | outside         pod             host
ClusterIP     Cluster  none                   | refused         refused         refused
ClusterIP     Cluster  here                   | here+snat       here            here+snat
ClusterIP     Cluster  there                  | there+snat      there           there+snat
ClusterIP     Cluster  here,there             | here,there+snat here,there      here,there+snat
ClusterIP     Cluster  here-leaving           | here+snat       here            here+snat
ClusterIP     Cluster  here-leaving,there     | there+snat      there           there+snat
ClusterIP     Cluster  here-not-ready         | refused         refused         refused
ClusterIP     Local    none                   | refused         refused         refused
ClusterIP     Local    here                   | here+snat       here            here+snat
ClusterIP     Local    there                  | refused         refused         refused
ClusterIP     Local    here,there             | here+snat       here            here+snat
ClusterIP     Local    here-leaving           | here+snat       here            here+snat
ClusterIP     Local    here-leaving,there     | here+snat       here            here+snat
ClusterIP     Local    here-not-ready         | refused         refused         refused
external      Cluster  none                   | refused         refused         refused
external      Cluster  here                   | here+snat       here+snat       here+snat
external      Cluster  there                  | there+snat      there+snat      there+snat
external      Cluster  here,there             | here,there+snat here,there+snat here,there+snat
external      Cluster  here-leaving           | here+snat       here+snat       here+snat
external      Cluster  here-leaving,there     | there+snat      there+snat      there+snat
external      Cluster  here-not-ready         | refused         refused         refused
external      Local    none                   | refused         refused         refused
external      Local    here                   | here            here            here
external      Local    there                  | dropped         there           there
external      Local    here,there             | here            here,there      here,there
external      Local    here-leaving           | here            here            here
external      Local    here-leaving,there     | here            there           there
external      Local    here-not-ready         | refused         refused         refused
";

const EXTERNAL: [(FrontKind, &str); 3] = [
    (FrontKind::LoadBalancer, "203.0.113.5:80/TCP"),
    (FrontKind::ExternalIp, "198.51.100.5:80/TCP"),
    (FrontKind::NodePort, "192.0.2.1:30080/TCP"),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Outside,
    Pod,
    Host,
}

#[test]
fn one_table_says_who_answers() {
    let mut found = String::new();
    for line in TABLE.trim().lines() {
        let (cell, _) = line.split_once('|').unwrap();
        let words: Vec<&str> = cell.split_whitespace().collect();
        let [kind, policy, endpoints] = words[..] else {
            panic!("three words before the bar: {line}");
        };
        if kind == "kind" {
            found += line;
        } else {
            found += &format!("{cell}| {}", row(kind, policy, endpoints));
        }
        found += "\n";
    }
    assert_lines(&found, TABLE);
}

/// The three verdicts; those of all external kinds must agree, and so must those
/// of NodePorts with a virtual server by address and by mark.
fn row(kind: &str, policy: &str, endpoints: &str) -> String {
    let fronts: Vec<&str> = match kind {
        "ClusterIP" => vec!["10.96.0.1:80/TCP"],
        _ => EXTERNAL.iter().map(|(_, front)| *front).collect(),
    };
    let mut rows = Vec::new();
    for servers in [NodePortServers::Address, NodePortServers::Mark] {
        let state = compiled(kind, policy, endpoints, servers);
        rows.extend(fronts.iter().map(|front| {
            let front = front.parse().unwrap();
            let clients = [Client::Outside, Client::Pod, Client::Host];
            clients
                .map(|client| verdict(&state, front, client))
                .join(" ")
        }));
    }
    assert!(
        rows.iter().all(|row| *row == rows[0]),
        "{fronts:?}: {rows:?}"
    );
    rows[0].clone()
}

fn compiled(kind: &str, policy: &str, endpoints: &str, servers: NodePortServers) -> KernelState {
    let service = web().node_port(30080).load_balancer("203.0.113.5");
    let service = service.external_ip("198.51.100.5");
    let service: Service = match (kind, policy) {
        ("ClusterIP", "Local") => service.internal_local(),
        ("external", "Local") => service.external_local(),
        _ => service,
    };
    let mut options = options();
    options.detect_local = true;
    options.node_port_servers = servers;
    options.allow_external_ips = vec!["198.51.100.0/24".parse().unwrap()];
    let mut slice = slice(&service, []);
    slice.endpoints = endpoints.split(',').filter_map(endpoint).collect();
    cluster_with(options).add(service).add(slice).state()
}

fn endpoint(word: &str) -> Option<Endpoint> {
    Some(match word {
        "none" => return None,
        "here" => ep("10.244.1.7").here(),
        "here-leaving" => ep("10.244.1.7").here().terminating(),
        "here-not-ready" => ep("10.244.1.7").here().not_ready(),
        "there" => ep("10.244.2.9"),
        other => panic!("{other}"),
    })
}

/// What the fixed chains of the table and IPVS do with a packet.
fn verdict(state: &KernelState, front: Front, client: Client) -> String {
    let row = state.row(&front).expect("a row");
    if row.verdict == Verdict::Refuse {
        return "refused".to_owned();
    }
    assert!(row.verdict.is_open(), "{front} is served or refused");
    let inside = row.inside_server(&front);
    let inside = inside.filter(|_| client != Client::Outside);
    if inside.is_none() && row.verdict == Verdict::DropOutside {
        return "dropped".to_owned();
    }
    let everybody = row.marked_server(&front);
    let key = inside.or(everybody);
    let key = key.unwrap_or(VirtualServerKey::Front(front));
    let servers = &state.virtual_servers[&key].real_servers;
    let taking = servers.iter().filter(|(_, real)| real.weight > 0);
    let names = taking.map(|(key, _)| match key.address.to_string().as_str() {
        "10.244.1.7" => "here",
        _ => "there",
    });
    let names: Vec<&str> = names.collect();
    let snat = match row.masquerade {
        Masquerade::Never => false,
        Masquerade::OffCluster => client != Client::Pod,
        Masquerade::Always => true,
    };
    format!("{}{}", names.join(","), if snat { "+snat" } else { "" })
}

#[test]
fn masquerade_all_is_for_cluster_addresses() {
    let mut options = options();
    options.masquerade_all = true;
    options.detect_local = true;
    let service = web().node_port(30080).external_local();
    let mut cluster = cluster_with(options);
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7").here()]);
    let state = cluster.state();
    assert_eq!(masqueraded(&state), ["10.96.0.1:80/TCP always"]);
}

/// Fronts whose clients' addresses are replaced, and when.
fn masqueraded(state: &KernelState) -> Vec<String> {
    let rows = state.table.rows.iter();
    let masqueraded = rows.filter(|(_, row)| row.masquerade != Masquerade::Never);
    masqueraded
        .map(|(front, row)| format!("{front} {}", row.masquerade))
        .collect()
}

#[test]
fn without_a_way_to_tell_local_pods_cluster_addresses_are_not_masqueraded() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    assert_eq!(masqueraded(&cluster.state()), [""; 0]);
}

#[test]
fn endpoints_on_this_node_may_talk_to_themselves() {
    let mut cluster = cluster();
    let both = [ep("10.244.1.7").here(), ep("10.244.2.9")];
    cluster.add(web()).endpoints(&web(), both);
    let state = cluster.state();
    let hairpin: Vec<String> = state
        .table
        .hairpin
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(hairpin, ["10.244.1.7"]);
}

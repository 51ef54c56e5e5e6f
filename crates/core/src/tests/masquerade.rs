//! Whose address endpoints see, as the owner of a Service asks.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::options::{NodePortServers, Options};
use crate::row::{Masquerade, Verdict};
use crate::state::KernelState;

const MASQUERADE: &str = "ipvs.kube-ipvs.dev/masquerade";

/// Of every kind, with this annotation.
fn every_kind(asked: &str) -> Service {
    let service = web().node_port(30080).load_balancer("203.0.113.5");
    service.annotation(MASQUERADE, asked)
}

fn some_options() -> Options {
    Options {
        detect_local: true,
        ..options()
    }
}

fn state_of(options: Options, service: &Service) -> (KernelState, Vec<String>) {
    let mut cluster = cluster_with(options);
    let both = [ep("10.244.1.7").here(), ep("10.244.2.9")];
    cluster.add(service.clone()).endpoints(service, both);
    let state = cluster.state();
    let warnings = cluster.warnings().into_iter().map(|w| w.message).collect();
    (state, warnings)
}

/// What is done at each front.
fn masquerades(state: &KernelState) -> Vec<String> {
    let rows = state.table.rows.iter();
    rows.map(|(front, row)| format!("{front} {}", row.masquerade))
        .collect()
}

#[test]
fn the_owner_decides_for_every_front_of_a_service() {
    for (asked, found) in [
        ("auto", ["off-cluster", "always", "always"]),
        ("never", ["never"; 3]),
        (" always ", ["always"; 3]),
    ] {
        let (state, warnings) = state_of(some_options(), &every_kind(asked));
        let [cluster_ip, node_port, balancer] = found;
        assert_eq!(
            masquerades(&state),
            [
                format!("10.96.0.1:80/TCP {cluster_ip}"),
                format!("192.0.2.1:30080/TCP {node_port}"),
                format!("203.0.113.5:80/TCP {balancer}"),
            ]
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn the_owner_goes_before_masquerade_all() {
    let mut options = some_options();
    options.masquerade_all = true;
    let (state, _) = state_of(options, &web().annotation(MASQUERADE, "never"));
    assert_eq!(masquerades(&state), ["10.96.0.1:80/TCP never"]);
}

#[test]
fn a_mark_of_node_ports_says_what_the_front_says() {
    let bit = |asked| {
        let mut options = some_options();
        options.node_port_servers = NodePortServers::Mark;
        let (state, _) = state_of(options, &every_kind(asked));
        let row = state.row(&"192.0.2.1:30080/TCP".parse().unwrap());
        row.unwrap().mark.unwrap() & (1 << 14) != 0
    };
    assert!(bit("auto"));
    assert!(bit("always"));
    assert!(!bit("never"));
}

#[test]
fn a_local_service_that_hides_its_clients_does_so_and_is_told() {
    let service = every_kind("always").external_local();
    let (state, warnings) = state_of(some_options(), &service);
    assert!(
        masquerades(&state)
            .iter()
            .all(|row| row.ends_with("always"))
    );
    assert_eq!(
        warnings,
        [
            "annotation ipvs.kube-ipvs.dev/masquerade: \"always\" hides the clients that \
          externalTrafficPolicy: Local would show"
        ]
    );
    let (_, warnings) = state_of(some_options(), &every_kind("never").external_local());
    assert!(warnings.is_empty());
}

#[test]
fn calls_from_inside_to_a_local_service_without_local_endpoints_are_masqueraded_too() {
    let service = every_kind("always").external_local();
    let mut cluster = cluster_with(some_options());
    cluster.add(service.clone());
    cluster.endpoints(&service, [ep("10.244.2.9")]);
    let state = cluster.state();
    let row = state.row(&"203.0.113.5:80/TCP".parse().unwrap()).unwrap();
    assert_eq!(row.verdict, Verdict::DropOutside);
    assert_eq!(row.masquerade, Masquerade::Always);
}

#[test]
fn a_front_without_endpoints_says_nothing_of_addresses() {
    let service = every_kind("always");
    let mut cluster = cluster_with(some_options());
    cluster.add(service);
    let state = cluster.state();
    assert!(masquerades(&state).iter().all(|row| row.ends_with("never")));
}

#[test]
fn another_word_is_as_good_as_auto() {
    let (state, warnings) = state_of(some_options(), &every_kind("sometimes"));
    assert_eq!(masquerades(&state)[0], "10.96.0.1:80/TCP off-cluster");
    assert_eq!(
        warnings,
        [
            "annotation ipvs.kube-ipvs.dev/masquerade: \"sometimes\" is none of auto, always and \
          never; auto is used"
        ]
    );
}

#[test]
fn what_the_owner_changes_changes_the_row_alone() {
    let (before, _) = state_of(some_options(), &web());
    let (after, _) = state_of(some_options(), &web().annotation(MASQUERADE, "never"));
    assert_eq!(before.virtual_servers, after.virtual_servers);
    let plan = plan(&before, &after).to_string();
    assert!(!plan.contains("server"), "{plan}");
    assert!(!plan.is_empty());
}

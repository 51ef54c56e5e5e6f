//! Services that were written for kube-router.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::state::KernelState;

fn named(name: &str, value: &str) -> Service {
    let service = web().node_port(30080).load_balancer("203.0.113.5");
    service.annotation(&format!("kube-router.io/service.{name}"), value)
}

fn compiled(service: &Service) -> (KernelState, Vec<String>) {
    let mut cluster = cluster();
    let both = [ep("10.244.1.7").here(), ep("10.244.2.9")];
    cluster.add(service.clone()).endpoints(service, both);
    let state = cluster.state();
    let warnings = cluster.warnings().into_iter().map(|w| w.message).collect();
    (state, warnings)
}

#[test]
fn local_is_the_external_policy_and_goes_before_what_the_service_says() {
    let plain = |service: Service| compiled(&service).0;
    let web = || web().node_port(30080).load_balancer("203.0.113.5");
    let alias = plain(named("local", "true"));
    assert_eq!(alias, plain(web().external_local()));
    assert_ne!(alias, plain(web()));
    let both = named("local", "true").internal_local();
    assert_eq!(alias, plain(both));
    for other in ["false", "", "True", "yes"] {
        assert_eq!(plain(named("local", other)), plain(web()), "{other}");
    }
}

#[test]
fn who_asks_is_told_what_explain_goes_by() {
    let mut cluster = cluster();
    cluster.add(named("local", "true"));
    cluster.compile();
    let name = crate::ServiceName::new("default", "web");
    let account = cluster.account(&name).unwrap();
    assert!(account.external_local && !account.internal_local);
}

#[test]
fn a_local_that_goes_is_the_services_own_policy_again() {
    let mut cluster = cluster();
    let web = web().node_port(30080);
    let local = web
        .clone()
        .annotation("kube-router.io/service.local", "true");
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.2.9")]);
    let before = cluster.state();
    cluster.add(local);
    assert_ne!(cluster.state(), before);
    cluster.add(web);
    assert_eq!(cluster.state(), before);
}

#[test]
fn what_is_done_for_all_needs_no_word_and_what_is_not_done_is_named_with_the_reason() {
    let plain = compiled(&web().node_port(30080).load_balancer("203.0.113.5"));
    for (name, value, why) in [
        ("hairpin", "", None),
        ("hairpin.externalips", "", None),
        (
            "dsr",
            "tunnel",
            Some("answers pass the node, which translates them"),
        ),
        ("advertise.clusterip", "true", Some("announces no routes")),
        ("advertise.externalip", "true", Some("announces no routes")),
        (
            "advertise.loadbalancerip",
            "true",
            Some("announces no routes"),
        ),
        ("advertise.clusterip", "false", None),
        ("skiplbips", "", Some("unless their ipMode is Proxy")),
    ] {
        let (state, warnings) = compiled(&named(name, value));
        assert_eq!(state, plain.0, "{name}");
        match why {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(why) => {
                let begin =
                    format!("annotation kube-router.io/service.{name}: \"{value}\" is not done");
                let [said] = warnings.as_slice() else {
                    panic!("{name}: {warnings:?}");
                };
                assert!(said.starts_with(&begin) && said.contains(why), "{said}");
            }
        }
    }
}

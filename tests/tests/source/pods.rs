//! Names of pods, which the API server alone has.

use std::collections::BTreeSet;

use kube_ipvs::pods::{PodArgs, PodNames};
use kube_ipvs_tests::apiserver::{ApiServer, Options, endpoint_slice, role};
use serde_json::json;

fn slice(service: &str, address: &str, pod: &str) -> serde_json::Value {
    let name = format!("{service}-1");
    let mut slice = endpoint_slice("default", service, &name, &[(address, "node-1")]);
    slice["endpoints"][0]["targetRef"] = json!({"kind": "Pod", "name": pod});
    slice
}

#[test]
fn pods_are_named_by_the_slices_of_the_services_that_are_asked_for() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let server = ApiServer::start_with(([127, 0, 0, 1], 0).into(), options);
    let directory = tempfile::tempdir().expect("make a directory");
    let kubeconfig = directory.path().join("kubeconfig");
    server
        .write_kubeconfig(&kubeconfig)
        .expect("write a kubeconfig");
    server.upsert(slice("web", "10.244.9.1", "web-0"));
    server.upsert(slice("dns", "10.244.9.2", "dns-0"));
    let args = PodArgs {
        pods: true,
        kubeconfig: Some(kubeconfig),
    };
    let asked = |services: &[&str]| {
        let services: BTreeSet<&str> = services.iter().copied().collect();
        PodNames::asked(&args, &services)
    };
    let [web, dns] = ["10.244.9.1", "10.244.9.2"].map(|one| one.parse().expect("an address"));

    let one = asked(&["default/web"]).expect("an answer");
    assert_eq!(one.of("default/web:http", web), Some("web-0"));
    assert_eq!(
        one.of("default/dns:dns", dns),
        None,
        "only what is asked for"
    );
    let both = asked(&["default/web", "default/dns"]).expect("an answer");
    assert_eq!(both.of("default/web:http", web), Some("web-0"));
    assert_eq!(both.of("default/dns:dns", dns), Some("dns-0"));
    let called = role::calls(&server.requests());
    let refused: Vec<_> = called.difference(&role::allowed()).cloned().collect();
    assert_eq!(refused, [], "not in the role of deploy/base");

    server.deny("list", "endpointslices");
    let error = asked(&["default/web"]).expect_err("it is forbidden");
    let said = format!("{error:#}");
    assert!(
        said.starts_with("ask the API server for the names of pods"),
        "{said}"
    );
    assert!(said.contains("forbidden"), "{said}");
}

//! What stands in `deploy/` is what Kubernetes and the program take.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::config::Kubeconfig;
use kube_ipvs::config::{self, RunArgs};
use kube_ipvs::metrics::Metrics;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

fn read(path: &str) -> String {
    let path = deploy(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a file.
fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The document of a kind, as its Kubernetes type. A field the type does not
/// know would be lost on the way back.
fn object<T: DeserializeOwned + Serialize>(path: &str, kind: &str) -> T {
    let document = documents(path)
        .into_iter()
        .find(|document| document["kind"] == kind)
        .unwrap_or_else(|| panic!("{path}: no {kind}"));
    let object: T = serde_json::from_value(document.clone())
        .unwrap_or_else(|error| panic!("{path}: {kind}: {error}"));
    let back = serde_json::to_value(&object).expect("JSON");
    assert_eq!(back, document, "{path}: {kind} has a field that is none");
    object
}

fn daemon_set() -> DaemonSet {
    object("base/daemon-set.yaml", "DaemonSet")
}

fn pod() -> PodSpec {
    daemon_set().spec.template.spec.expect("a pod")
}

/// The init container and the daemon.
fn containers() -> Vec<Container> {
    let pod = pod();
    let init = pod.init_containers.unwrap_or_default();
    init.into_iter().chain(pod.containers).collect()
}

#[test]
fn every_resource_of_the_base_is_of_its_type() {
    let kustomization = &documents("base/kustomization.yaml")[0];
    let listed: BTreeSet<&str> = kustomization["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let there: BTreeSet<String> = std::fs::read_dir(deploy("base"))
        .expect("deploy/base")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| name != "kustomization.yaml")
        .collect();
    assert_eq!(listed, there.iter().map(String::as_str).collect());

    object::<ServiceAccount>("base/service-account.yaml", "ServiceAccount");
    object::<ConfigMap>("base/config-map.yaml", "ConfigMap");
    object::<ClusterRole>("base/rbac.yaml", "ClusterRole");
    daemon_set();
}

#[test]
fn the_role_is_bound_to_the_account_of_the_pods() {
    let binding: ClusterRoleBinding = object("base/rbac.yaml", "ClusterRoleBinding");
    let role: ClusterRole = object("base/rbac.yaml", "ClusterRole");
    let account: ServiceAccount = object("base/service-account.yaml", "ServiceAccount");

    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    let subject = &binding.subjects.expect("a subject")[0];
    assert_eq!(Some(&subject.name), account.metadata.name.as_ref());
    assert_eq!(subject.namespace, account.metadata.namespace);
    assert_eq!(pod().service_account_name, account.metadata.name);
}

#[test]
fn the_pod_runs_on_every_node_in_its_network() {
    let pod = pod();

    assert_eq!(pod.host_network, Some(true));
    assert_eq!(
        pod.priority_class_name.as_deref(),
        Some("system-node-critical")
    );
    let tolerations = pod.tolerations.expect("tolerations");
    assert_eq!(tolerations.len(), 1);
    assert_eq!(tolerations[0].operator.as_deref(), Some("Exists"));
    assert_eq!(tolerations[0].key, None);
}

#[test]
fn the_daemon_has_net_admin_and_nothing_else() {
    let context = pod().containers[0].security_context.clone();
    let context = context.expect("a security context");

    let capabilities = context.capabilities.expect("capabilities");
    assert_eq!(capabilities.add, Some(vec!["NET_ADMIN".to_owned()]));
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(context.privileged, None);
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
}

#[test]
fn only_the_init_container_is_privileged_and_it_ends() {
    for container in containers() {
        let context = container.security_context.expect("a security context");
        let args = container.args.unwrap_or_default();
        assert_eq!(
            context.privileged == Some(true),
            args.contains(&"--init-only".to_owned()),
            "{}",
            container.name
        );
    }
}

#[test]
fn every_mount_has_its_volume() {
    let pod = pod();
    let volumes: BTreeSet<String> = pod.volumes.into_iter().flatten().map(|v| v.name).collect();

    for container in containers() {
        let mounts = container.volume_mounts.into_iter().flatten();
        let mounted: BTreeSet<String> = mounts.map(|mount| mount.name).collect();
        assert_eq!(mounted, volumes, "{}", container.name);
    }
}

#[test]
fn probes_ask_the_health_port_of_the_configuration() {
    let config = config_file("config.conf");
    let daemon = &pod().containers[0];
    let port = &daemon.ports.as_ref().expect("ports")[0];

    let bound = config["healthzBindAddress"].as_str().expect("an address");
    assert!(
        bound.ends_with(&format!(":{}", port.container_port)),
        "{bound}"
    );
    let probes = [
        (&daemon.startup_probe, "/livez"),
        (&daemon.liveness_probe, "/livez"),
        (&daemon.readiness_probe, "/readyz"),
    ];
    for (probe, path) in probes {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref());
        let get = get.expect("an HTTP probe");
        assert_eq!(get.path.as_deref(), Some(path));
        assert_eq!(json!(get.port), json!(port.name));
    }
}

/// A file out of the ConfigMap.
fn config_file(key: &str) -> Value {
    let text = config_text(key);
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{key}: {error}"))
}

fn config_text(key: &str) -> String {
    let map: ConfigMap = object("base/config-map.yaml", "ConfigMap");
    let mut data = map.data.expect("data");
    data.remove(key).unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn the_configuration_is_where_the_flags_look_for_it() {
    let config = config_file("config.conf");
    assert_eq!(config["mode"], "ipvs");
    let mounts = pod().containers[0]
        .volume_mounts
        .clone()
        .unwrap_or_default();
    let mount = mounts.iter().find(|mount| mount.name == "config");
    let folder = &mount.expect("a mount of the configuration").mount_path;

    assert_eq!(
        config["clientConnection"]["kubeconfig"],
        format!("{folder}/kubeconfig.conf")
    );
    for container in containers() {
        let args = container.args.unwrap_or_default();
        assert!(
            args.contains(&format!("--config={folder}/config.conf")),
            "{args:?}"
        );
    }
}

/// The flags of `run`, as the command line would take them.
fn run_args(container: &Container) -> RunArgs {
    let args = container.args.clone().unwrap_or_default();
    assert_eq!(args[0], "run");
    // As the kubelet fills it in.
    let args = args.iter().map(|arg| arg.replace("$(NODE_NAME)", "node-1"));
    let command = RunArgs::augment_args(Command::new("run"));
    let matches = command
        .try_get_matches_from(args)
        .unwrap_or_else(|error| panic!("{}: {error}", container.name));
    RunArgs::from_arg_matches(&matches).expect("flags that were taken")
}

#[test]
fn every_flag_exists_and_the_configuration_is_taken() {
    let text = config_text("config.conf");

    for container in containers() {
        let args = run_args(&container);
        let path = args.config.clone().expect("--config");
        let settings = config::settings(&args, Some((&path, &text)));
        assert!(settings.is_ok(), "{}: {:?}", container.name, settings.err());
    }
}

#[test]
fn the_kubeconfig_is_one_and_holds_no_secret() {
    let text = config_text("kubeconfig.conf");

    let kubeconfig = Kubeconfig::from_yaml(&text).expect("a kubeconfig");

    let user = kubeconfig.auth_infos[0].auth_info.as_ref().expect("a user");
    assert_eq!(
        user.token_file.as_deref(),
        Some("/var/run/secrets/kubernetes.io/serviceaccount/token")
    );
    assert!(user.token.is_none());
}

#[test]
fn the_kubeadm_overlay_replaces_what_is_there() {
    let overlay = &documents("kubeadm/kustomization.yaml")[0];
    let patches = overlay["patches"].as_array().expect("patches");
    let operations: Value =
        serde_saphyr::from_str(patches[1]["patch"].as_str().expect("a patch")).expect("YAML");

    let daemon_set = serde_json::to_value(daemon_set()).expect("JSON");
    let path = operations[0]["path"].as_str().expect("a path");
    assert_eq!(daemon_set.pointer(path), Some(&json!("kube-ipvs")));
}

/// Every operation of the overlay finds its place, and what it adds is a flag.
#[test]
fn the_migration_overlay_adds_a_selector_and_a_flag() {
    let overlay = &documents("migration/kustomization.yaml")[0];
    assert_eq!(overlay["resources"], json!(["../kubeadm"]));
    let patch = overlay["patches"][0]["patch"].as_str().expect("a patch");
    let operations: Vec<Value> = serde_saphyr::from_str(patch).expect("YAML");

    let mut changed = serde_json::to_value(daemon_set()).expect("JSON");
    for operation in &operations {
        assert_eq!(operation["op"], "add");
        let path = operation["path"].as_str().expect("a path");
        let (parent, key) = path.rsplit_once('/').expect("a parent");
        let value = operation["value"].clone();
        match changed.pointer_mut(parent).expect("a place to add to") {
            Value::Array(items) if key == "-" => items.push(value),
            Value::Object(map) => _ = map.insert(key.to_owned(), value),
            other => panic!("{path}: {other}"),
        }
    }

    let changed: DaemonSet = serde_json::from_value(changed).expect("a DaemonSet");
    let pod = changed.spec.template.spec.expect("a pod");
    assert_eq!(pod.node_selector.expect("a selector")["kube-ipvs"], "true");
    assert_eq!(run_args(&pod.containers[0]).adopt_kube_proxy, Some(true));
}

/// Every metric that a query asks for exists; how many it asks for.
fn asks_for_metrics_there_are(of: &str, query: &str) -> usize {
    let mut names = BTreeSet::new();
    for metric in Metrics::catalogue() {
        if metric.kind == "histogram" {
            let parts = ["_bucket", "_sum", "_count"];
            names.extend(parts.map(|part| format!("{}{part}", metric.name)));
        } else {
            names.insert(metric.name);
        }
    }
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asked: Vec<&str> = words
        .filter(|word| word.starts_with("kube") || word.starts_with("process_"))
        .collect();
    for word in &asked {
        assert!(names.contains(*word), "{of}: no metric {word}");
    }
    asked.len()
}

#[test]
fn the_dashboard_asks_for_metrics_there_are() {
    let dashboard: Value = serde_json::from_str(&read("grafana/kube-ipvs.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");

    let mut asked = 0;
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            asked += asks_for_metrics_there_are(&panel["title"].to_string(), query);
        }
    }
    assert!(asked >= panels.len(), "{asked}");
}

#[test]
fn alerts_ask_for_metrics_there_are() {
    let rules = &documents("prometheus/alerts.yaml")[0]["groups"][0]["rules"];

    let mut asked = 0;
    for rule in rules.as_array().expect("rules") {
        let expression = rule["expr"].as_str().expect("an expression");
        asked += asks_for_metrics_there_are(&rule["alert"].to_string(), expression);
    }
    assert!(asked >= 6, "{asked}");
}

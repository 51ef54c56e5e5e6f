//! What the real helm and kubectl make of `deploy/`.
//!
//! They are no part of every machine: `cargo xtask chart` fetches them
//! and runs the tests that are ignored without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use kube_ipvs::config::RunArgs;
use serde_json::Value;

/// The two values that have no default, as `deploy/base` has them.
const GIVEN: &str = "apiServer=https://control-plane.example:6443,podCIDRs={10.244.0.0/16}";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

/// What a program printed, or its error.
fn ask(variable: &str, words: &[&str]) -> Result<String, String> {
    let program = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: cargo xtask chart"));
    let output = Command::new(&program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("start {program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr) + &text(&output.stdout))
    }
}

/// Objects by kind and name; files in ConfigMaps as what they hold.
type Objects = BTreeMap<String, Value>;

fn objects(text: &str) -> Objects {
    let mut all = Objects::new();
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    for mut object in documents.into_iter().filter(|object| !object.is_null()) {
        let files = object.pointer_mut("/data").and_then(Value::as_object_mut);
        for file in files.into_iter().flat_map(serde_json::Map::values_mut) {
            let text = file.as_str().expect("a text");
            *file = serde_saphyr::from_str(text).expect("YAML in a ConfigMap");
        }
        let name = format!("{}/{}", object["kind"], object["metadata"]["name"]);
        let before = all.insert(name.replace('"', ""), object);
        assert!(before.is_none(), "twice: {before:?}");
    }
    all
}

fn chart(settings: &[&str]) -> Result<Objects, String> {
    let place = deploy("chart").display().to_string();
    let mut words = vec![
        "template",
        "kube-ipvs",
        &place,
        "--namespace",
        "kube-system",
    ];
    for setting in settings {
        // `--set` reads numbers and booleans, which a label is not.
        match setting.strip_prefix("text ") {
            Some(setting) => words.extend(["--set-string", setting]),
            None => words.extend(["--set", setting]),
        }
    }
    ask("KUBE_IPVS_HELM", &words).map(|text| objects(&text))
}

/// Without what makes pods follow their configuration, for which kustomize has no word.
fn rendered(settings: &[&str]) -> Objects {
    let mut objects = with_checksum(settings);
    let daemon = objects.get_mut("DaemonSet/kube-ipvs").expect("a DaemonSet");
    let metadata = daemon.pointer_mut("/spec/template/metadata");
    let metadata = metadata.and_then(Value::as_object_mut).expect("metadata");
    metadata.remove("annotations");
    objects
}

fn with_checksum(settings: &[&str]) -> Objects {
    chart(&[&[GIVEN], settings].concat()).unwrap_or_else(|error| panic!("{settings:?}: {error}"))
}

fn kustomized(path: &str) -> Objects {
    let place = deploy(path).display().to_string();
    let text = ask("KUBE_IPVS_KUBECTL", &["kustomize", &place]);
    objects(&text.unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// The arguments of the init container and of the daemon, taken by `run`.
fn flags(objects: &Objects) -> Vec<clap::ArgMatches> {
    let pod = &objects["DaemonSet/kube-ipvs"]["spec"]["template"]["spec"];
    let containers = ["/initContainers/0/args", "/containers/0/args"];
    let parse = |at: &str| {
        let words: Vec<String> =
            serde_json::from_value(pod.pointer(at).expect(at).clone()).expect("words");
        let words = words
            .iter()
            .map(|word| word.replace("$(NODE_NAME)", "node-1"));
        let run = RunArgs::augment_args(clap::Command::new("run"));
        run.try_get_matches_from(words)
            .unwrap_or_else(|error| panic!("{at}: {error}"))
    };
    containers.map(parse).into()
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn the_chart_makes_what_the_base_has() {
    let (chart, base) = (rendered(&[]), kustomized("base"));

    assert_eq!(
        chart.keys().collect::<Vec<_>>(),
        base.keys().collect::<Vec<_>>()
    );
    for (name, object) in &base {
        assert_eq!(&chart[name], object, "{name}");
    }
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn helm_finds_no_fault_in_the_chart() {
    let place = deploy("chart").display().to_string();

    let said = ask(
        "KUBE_IPVS_HELM",
        &["lint", "--strict", &place, "--set", GIVEN],
    );

    assert!(said.is_ok(), "{said:?}");
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn every_kustomization_makes_a_daemon_whose_flags_exist() {
    for path in ["base", "kubeadm", "migration"] {
        assert_eq!(flags(&kustomized(path)).len(), 2, "{path}");
    }
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn on_kubeadm_the_chart_makes_what_the_overlay_has() {
    let chart = rendered(&["existingConfigMap=kube-proxy"]);

    assert_eq!(chart, kustomized("kubeadm"));
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn while_migrating_the_chart_makes_what_the_overlay_has() {
    let chart = rendered(&[
        "existingConfigMap=kube-proxy,adoptKubeProxy=true",
        "text nodeSelector.kube-ipvs=true",
    ]);

    assert_eq!(chart, kustomized("migration"));
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn flags_and_fields_reach_the_daemon() {
    let chart = rendered(&[
        "flags.drain-timeout=5m,flags.events=false,scheduler=mh,adoptKubeProxy=true",
        "config.ipvs.strictARP=true,image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ]);

    let flags = flags(&chart);
    let of = |at: usize, name: &str| {
        let matches = &flags[at];
        let mut raw = matches.get_raw(name)?.map(std::ffi::OsStr::to_owned);
        raw.next()?.into_string().ok()
    };
    assert_eq!(of(1, "drain_timeout").as_deref(), Some("5m"));
    assert_eq!(of(1, "events").as_deref(), Some("false"));
    assert_eq!(of(1, "adopt_kube_proxy").as_deref(), Some("true"));
    assert_eq!(of(0, "adopt_kube_proxy"), None);
    let file = &chart["ConfigMap/kube-ipvs"]["data"]["config.conf"];
    assert_eq!(file["ipvs"]["strictARP"], true);
    assert_eq!(file["ipvs"]["scheduler"], "mh");
    assert_eq!(file["ipvs"]["syncPeriod"], "30s");
    let image = &chart["DaemonSet/kube-ipvs"]["spec"]["template"]["spec"]["containers"][0]["image"];
    let image = image.as_str().expect("an image");
    assert!(
        image.starts_with("ghcr.io/kube-ipvs/kube-ipvs@sha256:0123"),
        "{image}"
    );
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn another_configuration_is_another_pod() {
    let annotations = |settings: &[&str]| {
        let pod = &with_checksum(settings)["DaemonSet/kube-ipvs"]["spec"]["template"];
        pod["metadata"]["annotations"].clone()
    };

    let usual = annotations(&[]);
    assert!(usual["checksum/config"].is_string(), "{usual}");
    assert_ne!(usual, annotations(&["scheduler=lc"]));
    assert_eq!(usual, annotations(&["image.pullPolicy=Always"]));
    assert_eq!(annotations(&["existingConfigMap=kube-proxy"]), Value::Null);
    let own = annotations(&["existingConfigMap=kube-proxy", "podAnnotations.note=x"]);
    assert_eq!(own, serde_json::json!({"note": "x"}));
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn monitoring_is_off_until_it_is_asked_for() {
    let chart = rendered(&[
        "metrics.bindAddress=0.0.0.0:10249,metrics.podMonitor.enabled=true",
        "metrics.rules.enabled=true,metrics.dashboards.enabled=true",
    ]);

    let more: BTreeSet<&String> = chart
        .keys()
        .filter(|name| !rendered(&[]).contains_key(*name))
        .collect();
    let names = [
        "ConfigMap/kube-ipvs-dashboard",
        "PodMonitor/kube-ipvs",
        "PrometheusRule/kube-ipvs",
    ];
    assert_eq!(more, names.map(str::to_owned).iter().collect());
    let ports = &chart["DaemonSet/kube-ipvs"]["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports[1]["containerPort"], 10249);
    let monitor = &chart["PodMonitor/kube-ipvs"]["spec"];
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], ports[1]["name"]);
    let rules = &chart["PrometheusRule/kube-ipvs"]["spec"]["groups"][0]["rules"];
    assert!(
        rules.as_array().is_some_and(|rules| rules.len() >= 6),
        "{rules}"
    );
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn values_that_make_no_sense_are_refused_by_name() {
    for (setting, named) in [
        ("scheduler=round-robin", "/scheduler"),
        ("sheduler=rr", "sheduler"),
        ("flags.drian-timeout=5m", "drian-timeout"),
        ("flags.drain-timeout=null,flags.config=/etc/x", "config"),
        ("config.clusterCidr=10.0.0.0/8", "clusterCidr"),
        ("apiServer=http://10.0.0.1:8080", "/apiServer"),
        ("podCIDRs={10.244.0.0}", "/podCIDRs/0"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=sha256:12", "/image/digest"),
        ("metrics.bindAddress=everywhere", "/metrics/bindAddress"),
        ("metrics.podMonitor.enabled=true", "/metrics/bindAddress"),
        ("adoptKubeProxy=perhaps", "/adoptKubeProxy"),
        ("tolerations[0].operator=Any", "/tolerations/0/operator"),
        (
            "terminationGracePeriodSeconds=0",
            "/terminationGracePeriodSeconds",
        ),
        ("apiServer=control-plane:6443", "/apiServer"),
        ("apiServer=https://10.0.0.1:6443/", "/apiServer"),
        ("podCIDRs={10.0.0.0/8,fd00::/8,10.1.0.0/16}", "/podCIDRs"),
        ("config.mode=nftables", "mode"),
        ("metrics.podmonitor.enabled=true", "podmonitor"),
        ("metrics.bindAddress=0.0.0.0", "/metrics/bindAddress"),
        ("updateStrategy.type=Sometimes", "/updateStrategy/type"),
        (
            "updateStrategy.rollingUpdate.maxUnavaliable=3",
            "maxUnavaliable",
        ),
        (
            "updateStrategy.rollingUpdate.maxUnavailable=-3",
            "/updateStrategy/rollingUpdate/maxUnavailable",
        ),
        ("apiServer=https://host:port", "/apiServer"),
        ("podCIDRs={10.244.0.0/33}", "/podCIDRs/0"),
        ("podCIDRs={fd00::/129}", "/podCIDRs/0"),
        ("podCIDRs={10.0.0.0/16,10.1.0.0/16}", "/podCIDRs"),
        ("podCIDRs={fd00::/16,fd01::/16}", "/podCIDRs"),
        (
            "metrics.bindAddress=127.0.0.1:65536",
            "/metrics/bindAddress",
        ),
        ("metrics.bindAddress=300.0.0.1:1", "/metrics/bindAddress"),
        // It is `metrics.bindAddress`, by which the PodMonitor knows the port.
        ("config.metricsBindAddress=0.0.0.0:1", "metricsBindAddress"),
        (
            "config.healthzBindAddress=0.0.0.0",
            "/config/healthzBindAddress",
        ),
        ("config.ipvs.schedular=rr", "schedular"),
        ("config.ipvs.scheduler=round", "/config/ipvs/scheduler"),
        ("config.ipvs.syncPeriod=soon", "/config/ipvs/syncPeriod"),
        ("config.oomScoreAdj=-1001", "/config/oomScoreAdj"),
        ("config.detectLocalMode=Pods", "/config/detectLocalMode"),
        ("flags.drain-timeout=soon", "/flags/drain-timeout"),
        ("flags.vip-binding=link", "/flags/vip-binding"),
        ("flags.events=perhaps", "/flags/events"),
        (
            "flags.nodeport-reserved-ports=ssh",
            "/flags/nodeport-reserved-ports",
        ),
        (
            "nodeSelector.kubernetes\\.io/os=windows",
            "/nodeSelector/kubernetes.io",
        ),
        ("podLabels.app\\.kubernetes\\.io/name=x", "/podLabels/app"),
        ("resources.requests.cpu=much", "/resources/requests/cpu"),
        ("image.repository=ghcr.io/Us/it", "/image/repository"),
        ("priorityClassName=Very High", "/priorityClassName"),
        ("affinity.nodeAfinity.x=1", "nodeAfinity"),
        ("apiServer=", "apiServer: name an address"),
        ("podCIDRs=null", "podCIDRs: name the networks"),
    ] {
        let error = chart(&[GIVEN, setting]).expect_err(setting);
        assert!(error.contains(named), "{setting}: {error}");
    }
}

#[test]
#[ignore = "needs helm and kubectl: cargo xtask chart"]
fn values_that_make_sense_are_taken() {
    for setting in [
        "podCIDRs={10.244.0.0/16,fd00:10:244::/56}",
        "podCIDRs={fd00:10:244::/56,10.244.0.0/16}",
        "apiServer=https://[fd00::2]:6443",
        "apiServer=https://api.internal.example",
        "metrics.bindAddress=[::]:10249,metrics.podMonitor.enabled=true",
        "podCIDRs=null,config.detectLocalMode=BridgeInterface,config.detectLocal.bridgeInterface=cni0",
        "config.healthzBindAddress=0.0.0.0:10300,config.conntrack.min=0,config.logging.verbosity=4",
        // Empty as kubeadm writes them.
        "config.detectLocalMode=,config.healthzBindAddress=,config.ipvs.scheduler=,config.portRange=",
        "config.ipvs.tcpTimeout=15m,config.ipvs.excludeCIDRs={192.0.2.0/24},config.iptables.masqueradeBit=0",
        "config.nodePortAddresses={primary,localhost,192.0.2.0/24},config.featureGates.KubeProxyIPVS=true",
        "flags.allow-external-ips=0.0.0.0/0\\,::/0,flags.events=false,flags.drain-timeout=1h30m",
        "flags.nodeport-reserved-ports=22\\,10250-10260,flags.ipvs-scheduler-flags=no-mh-port",
        "image.repository=registry.example:5000/a/b_c,image.tag=v1,priorityClassName=",
        "updateStrategy.rollingUpdate.maxUnavailable=3",
        "resources.limits.memory=128Mi,resources.requests.cpu=1,resources.requests.memory=0.5Gi",
    ] {
        if let Err(error) = chart(&[GIVEN, setting]) {
            panic!("{setting}: {error}");
        }
    }
}

/// A row of `docs/flags.md`, which a test holds to the program.
struct Row {
    flag: String,
    field: String,
    honoured: bool,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(deploy("../docs/flags.md")).expect("docs/flags.md");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let row = |line: &str| {
        let cells: Vec<&str> = line
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        Row {
            flag: cells[1].trim_start_matches("--").to_owned(),
            field: cells[2].to_owned(),
            honoured: cells[4] == "honoured",
        }
    };
    rows.map(row).collect()
}

/// What a value of the chart may name, down to what has no names in it.
fn allowed(value: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(deploy("chart/values.schema.json")).expect("a schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let mut names = BTreeSet::new();
    names_in(&schema["properties"][value], "", &mut names);
    names
}

fn names_in(schema: &Value, path: &str, names: &mut BTreeSet<String>) {
    assert!(schema.as_object().is_some_and(|x| !x.is_empty()), "{path}");
    let Some(properties) = schema["properties"].as_object() else {
        names.insert(path.trim_start_matches('.').to_owned());
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{path}");
    for (name, schema) in properties {
        names_in(schema, &format!("{path}.{name}"), names);
    }
}

#[test]
fn the_schema_knows_the_flags_that_have_no_field() {
    // The chart's own, what ends the program, and what has a better place.
    let others = [
        "adopt-kube-proxy",
        "cleanup",
        "config",
        "healthz-port",
        "hostname-override",
        "init-only",
        "manifests",
        "metrics-port",
        "once",
        "state-dir",
        "version",
        "write-config-to",
    ];
    let wanted = rows()
        .into_iter()
        .filter(|row| row.honoured && row.field.is_empty() && !others.contains(&row.flag.as_str()));

    assert_eq!(allowed("flags"), wanted.map(|row| row.flag).collect());
}

#[test]
fn the_schema_knows_the_fields_of_the_file() {
    // Those the chart writes itself, and the headings of the table.
    let others = [
        "",
        "apiVersion",
        "kind",
        "mode",
        "hostnameOverride",
        "metricsBindAddress",
        "Field",
        "---",
    ];
    let fields = rows().into_iter().map(|row| row.field);

    let wanted = fields
        .filter(|field| !others.contains(&field.as_str()))
        .collect();

    assert_eq!(allowed("config"), wanted);
}

#[test]
fn chart_and_program_have_one_version() {
    let text = std::fs::read_to_string(deploy("chart/Chart.yaml")).expect("a chart");
    let chart: Value = serde_saphyr::from_str(&text).expect("YAML");

    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

//! Every flag and field is seen in [`Settings`] or in a warning; everything
//! bad is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use kube_ipvs_core::names::ServiceName;
use kube_ipvs_core::state::Family;
use serde_json::{Value, json};

use super::file::KubeProxyConfiguration;
use super::table::{SETTINGS, by_field};
use super::{
    Action, Class, DetectLocal, LogFormat, Problems, RunArgs, Settings, Source, VipBinding, docs,
};

const KUBEADM: &str = include_str!("testdata/kubeadm.yaml");
const EVERYTHING: &str = include_str!("testdata/everything.yaml");

fn command() -> Command {
    RunArgs::augment_args(Command::new("run").disable_version_flag(true))
}

pub(super) fn parse(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
    let line = ["run"].iter().chain(arguments);
    let line = line.map(|x| super::normalise(x.into()));
    RunArgs::from_arg_matches(&command().try_get_matches_from(line)?)
}

pub(super) fn flags(arguments: &[&str]) -> Result<Settings, Problems> {
    super::settings(&parse(arguments).expect("flags parse"), None)
}

pub(super) fn file(text: &str) -> Result<Settings, Problems> {
    file_and(text, &[])
}

pub(super) fn file_and(text: &str, arguments: &[&str]) -> Result<Settings, Problems> {
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{text}"
    );
    super::settings(
        &parse(arguments).expect("flags parse"),
        Some((Path::new("conf"), &text)),
    )
}

fn whole_file(text: &str) -> Result<Settings, Problems> {
    super::settings(&RunArgs::default(), Some((Path::new("conf"), text)))
}

/// Debug text of what reaches the program, without the configuration and the
/// flags themselves, which hold everything.
fn seen(settings: &Settings) -> String {
    let bare = Settings {
        configuration: KubeProxyConfiguration::default(),
        flags: Vec::new(),
        ..settings.clone()
    };
    format!("{bare:#?}")
}

#[test]
fn kube_proxy_has_57_flags_and_two_hidden_ones() {
    let kind = SETTINGS
        .iter()
        .position(|x| x.field == "kind")
        .expect("kind is a field");
    let theirs: BTreeSet<_> = SETTINGS[..kind]
        .iter()
        .map(|x| x.flag)
        .filter(|x| !x.is_empty())
        .collect();
    // --help is clap's.
    assert_eq!(theirs.len() + 1, 57 + 2);
}

#[test]
fn the_table_has_every_flag_once_and_nothing_else() {
    let mut real: Vec<_> = command()
        .get_arguments()
        .filter_map(|x| x.get_long().map(str::to_owned))
        .collect();
    let mut table: Vec<_> = SETTINGS
        .iter()
        .map(|x| x.flag)
        .filter(|x| !x.is_empty())
        .collect();
    real.sort();
    table.sort_unstable();
    assert_eq!(real, table);
}

#[test]
fn the_table_has_every_field_once_and_nothing_else() {
    let mut full = KubeProxyConfiguration::of_empty_file();
    full.logging.vmodule.push(super::file::Vmodule::default());
    let mut real = Vec::new();
    paths("", &json!(full), &mut real);
    let mut table: Vec<_> = SETTINGS
        .iter()
        .map(|x| x.field)
        .filter(|x| !x.is_empty())
        .collect();
    real.sort();
    table.sort_unstable();
    assert_eq!(real, table);
}

fn paths(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if path != "featureGates" => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                paths(&path, value, out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// For each flag a value that is not the default. The mode apart: it has one.
fn flag_examples() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("accept-in-foreign-chains", "true"),
        ("adopt-kube-proxy", "true"),
        ("allow-external-ips", "203.0.113.0/24"),
        ("api-servers", "192.0.2.7:6443"),
        ("bind-address", "192.0.2.7"),
        ("bind-address-hard-fail", "true"),
        ("boot-id-file", "/x"),
        ("cleanup", "true"),
        ("cluster-cidr", "10.9.0.0/16"),
        ("config-sync-period", "1h"),
        ("conntrack-max-per-core", "77"),
        ("conntrack-min", "78"),
        ("conntrack-tcp-be-liberal", "true"),
        ("conntrack-tcp-timeout-close-wait", "7s"),
        ("conntrack-tcp-timeout-established", "8s"),
        ("conntrack-udp-timeout", "9s"),
        ("conntrack-udp-timeout-stream", "11s"),
        ("detect-local-mode", "NodeCIDR"),
        ("drain-timeout", "12s"),
        ("real-server-sync-period", "10m"),
        ("events", "false"),
        ("feature-gates", "AllowServiceExternalIPs=true,Other=false"),
        ("healthz-bind-address", "192.0.2.8:1"),
        ("healthz-port", "13"),
        ("hostname-override", "Node-X"),
        ("init-only", "true"),
        ("iptables-localhost-nodeports", "false"),
        ("iptables-masquerade-bit", "13"),
        ("iptables-min-sync-period", "2s"),
        ("iptables-sync-period", "31s"),
        ("ipvs-exclude-cidrs", "198.51.100.0/24"),
        ("ipvs-min-sync-period", "3s"),
        ("ipvs-scheduler", "wlc"),
        ("ipvs-strict-arp", "true"),
        ("ipvs-sync-period", "32s"),
        ("ipvs-tcp-timeout", "33s"),
        ("ipvs-tcpfin-timeout", "34s"),
        ("ipvs-udp-timeout", "35s"),
        ("ipvs-untracked-services", "kube-system/kube-dns,annotated"),
        ("kube-api-burst", "36"),
        ("kube-api-content-type", "application/json"),
        ("kube-api-qps", "37"),
        ("kubeconfig", "/kubeconfig"),
        ("log-flush-frequency", "38s"),
        ("log-format", "json"),
        ("log-json-info-buffer-size", "1Ki"),
        ("log-json-split-stream", "true"),
        ("log-text-info-buffer-size", "2Ki"),
        ("log-text-split-stream", "true"),
        ("logging-format", "json"),
        ("machine-id-file", "/y"),
        ("manifests", "/manifests"),
        ("masquerade-all", "true"),
        ("master", "https://192.0.2.1"),
        ("metrics-bind-address", "192.0.2.9:2"),
        ("metrics-port", "39"),
        ("node-addresses", "192.0.2.10"),
        ("nodeport-addresses", "192.0.2.0/24"),
        ("nodeport-reserved-ports", "22,10250-10260"),
        ("nodeport-virtual-servers", "mark"),
        ("once", "true"),
        ("oom-score-adj", "-40"),
        ("pod-bridge-interface", "cbr0"),
        ("pod-interface-name-prefix", "cali"),
        ("profiling", "true"),
        ("service-annotations", "scheduler,weights"),
        ("service-metrics", "true"),
        ("service-proxy-name", "other"),
        ("show-hidden-metrics-for-version", "1.35"),
        ("state-dir", "/state"),
        ("unallocated-cluster-ips", "reject"),
        ("v", "4"),
        ("version", "raw"),
        ("vip-binding", "route"),
        ("vmodule", "proxier=4"),
        ("write-config-to", "/out"),
        ("ipvs-run-estimation", "false"),
        ("ipvs-scheduler-flags", "no-mh-port"),
    ])
}

/// What a flag needs beside it.
fn company(flag: &str) -> &'static [&'static str] {
    match flag {
        "pod-bridge-interface" => &["--detect-local-mode=BridgeInterface"],
        "pod-interface-name-prefix" => &["--detect-local-mode=InterfaceNamePrefix"],
        "ipvs-scheduler-flags" => &["--ipvs-scheduler=mh"],
        _ => &[],
    }
}

/// A setting that is honoured is seen and not warned of; one without meaning is
/// warned of once.
#[track_caller]
fn is_seen_or_warned_of(name: &str, class: Class, before: &Settings, after: &Settings) {
    let named = format!("{name} has no meaning here: ");
    let warnings = after.warnings.iter();
    let warned = warnings.filter(|x| x.starts_with(&named)).count();
    match class {
        Class::Honoured | Class::Refused(_) => {
            assert_ne!(seen(before), seen(after), "{name} changes nothing");
            assert_eq!(warned, 0, "{name}");
        }
        Class::NoMeaning(_) => assert_eq!(warned, 1, "{name}: {:?}", after.warnings),
    }
}

#[test]
fn every_flag_is_seen_in_the_settings_or_in_one_warning() {
    let examples = flag_examples();
    for setting in SETTINGS.iter().filter(|x| !x.flag.is_empty()) {
        if matches!(setting.flag, "proxy-mode" | "config") {
            continue;
        }
        let value = examples
            .get(setting.flag)
            .unwrap_or_else(|| panic!("no example for {}", setting.flag));
        let company = company(setting.flag);
        // The modes need their link's name: give another one to compare with.
        let other = match setting.flag {
            "pod-bridge-interface" => "--pod-bridge-interface=other",
            "pod-interface-name-prefix" => "--pod-interface-name-prefix=other",
            _ => "",
        };
        let plain: Vec<_> = company
            .iter()
            .copied()
            .chain([other])
            .filter(|x| !x.is_empty())
            .collect();
        let argument = format!("--{}={value}", setting.flag);
        let given: Vec<_> = company.iter().copied().chain([argument.as_str()]).collect();
        let before = flags(&plain).expect(setting.flag);
        let after = flags(&given).expect(setting.flag);
        let name = format!("--{}", setting.flag);
        is_seen_or_warned_of(&name, setting.class, &before, &after);
        if !setting.field.is_empty() {
            let field = |x: &Settings| {
                let pointer = format!("/{}", setting.field.replace('.', "/"));
                json!(x.configuration).pointer(&pointer).cloned()
            };
            assert_ne!(
                field(&before),
                field(&after),
                "--{} is not in the configuration",
                setting.flag
            );
        }
    }
}

#[test]
fn every_field_is_seen_in_the_settings_or_in_one_warning() {
    let tree: Value = serde_saphyr::from_str(EVERYTHING).expect("the file is YAML");
    let plain = file("").expect("an empty file is good");
    for setting in SETTINGS.iter().filter(|x| !x.field.is_empty()) {
        if matches!(setting.field, "mode" | "apiVersion" | "kind") {
            continue;
        }
        let pointer = format!("/{}", setting.field.replace('.', "/"));
        let value = tree
            .pointer(&pointer)
            .unwrap_or_else(|| panic!("{} is not in everything.yaml", setting.field));
        let mut only = value.clone();
        for key in setting.field.rsplit('.') {
            only = json!({ key: only });
        }
        match setting.field {
            "detectLocal.bridgeInterface" => only["detectLocalMode"] = json!("BridgeInterface"),
            "detectLocal.interfaceNamePrefix" => {
                only["detectLocalMode"] = json!("InterfaceNamePrefix")
            }
            _ => {}
        }
        only["apiVersion"] = json!(super::file::API_VERSION);
        only["kind"] = json!(super::file::KIND);
        let after = whole_file(&only.to_string()).expect(setting.field);
        // localhostNodePorts is true there: false would ask for nothing.
        let name = format!("conf: {}", setting.field);
        is_seen_or_warned_of(&name, setting.class, &plain, &after);
    }
}

#[test]
fn the_config_map_of_kubeadm_starts() {
    let settings = whole_file(KUBEADM).expect("kubeadm's file is good");
    assert_eq!(settings.warnings, Vec::<String>::new());
    assert_eq!(settings.scheduler, "rr");
    assert_eq!(settings.min_sync_period.as_secs(), 0);
    assert_eq!(settings.sync_period.as_secs(), 30);
    assert_eq!(settings.http.healthz, "0.0.0.0:10256".parse().ok());
    assert_eq!(settings.http.metrics, "127.0.0.1:10249".parse().ok());
    assert_eq!(
        settings.client.kubeconfig.as_deref(),
        Some(Path::new("/var/lib/kube-proxy/kubeconfig.conf"))
    );
    assert_eq!(
        settings.detect_local,
        DetectLocal::Cidrs(vec!["10.244.0.0/16".parse().expect("a network")])
    );
    assert_eq!(settings.host.conntrack.sysctls(4), []);
    assert_eq!(settings.client.qps, 5.0);
}

#[test]
fn a_file_with_every_field_starts() {
    let settings = whole_file(EVERYTHING).expect("the file is good");
    insta::assert_debug_snapshot!(
        "everything",
        Settings {
            configuration: KubeProxyConfiguration::default(),
            flags: Vec::new(),
            ..settings
        }
    );
}

#[test]
fn written_configuration_reads_back_the_same() {
    for text in [KUBEADM, EVERYTHING] {
        let first = whole_file(text).expect("the file is good");
        let written = super::yaml(&first.configuration);
        let second = whole_file(&written).expect("what we write is good");
        assert_eq!(first.configuration, second.configuration);
        assert_eq!(
            seen(&first).len(),
            seen(&Settings {
                warnings: first.warnings.clone(),
                ..second
            })
            .len()
        );
    }
}

fn options(settings: &Settings) -> kube_ipvs_core::Options {
    settings.options("node-1".to_owned(), Vec::new())
}

#[test]
fn among_manifests_there_may_be_no_node_to_wait_for() {
    let settings = flags(&["--manifests=/manifests"]).expect("a source");

    assert!(!options(&settings).wait_for_node);
    assert!(!options(&settings).wait_for_service_cidrs);
}

#[test]
fn no_flag_at_all_is_kube_proxys_defaults() {
    let settings = flags(&[]).expect("defaults are good");
    assert_eq!(settings.min_sync_period.as_secs(), 1);
    assert_eq!(settings.source, Source::Kubernetes);
    assert!(options(&settings).wait_for_node);
    assert!(options(&settings).wait_for_service_cidrs);
    assert_eq!(settings.action, Action::Run);
    assert_eq!(settings.masquerade_bit, 14);
    assert_eq!(settings.oom_score_adj, -999);
    assert_eq!(settings.host.conntrack.sysctls(4), []);
    assert_eq!(settings.host.conntrack.hash_size(4), None);
    assert_eq!(settings.drain_timeout.as_secs(), 900);
    assert_eq!(settings.detect_local, DetectLocal::Unknown);
    assert!(settings.events);
}

#[test]
fn sizes_of_conntrack_are_set_for_who_names_one_of_them() {
    for (arguments, expected) in [
        (&[][..], None),
        (&["--conntrack-min=200000"], Some(200_000)),
        (&["--conntrack-max-per-core=40000"], Some(160_000)),
        (&["--conntrack-max-per-core=1000"], Some(131_072)),
        (
            &["--conntrack-max-per-core=0", "--conntrack-min=200000"],
            None,
        ),
        (&["--conntrack-min=0"], None),
    ] {
        let settings = flags(arguments).expect("good flags");
        assert_eq!(settings.host.conntrack.max(4), expected, "{arguments:?}");
    }
    let file = whole_file(&KUBEADM.replace("  min: null", "  min: 7")).expect("a good file");
    assert_eq!(file.host.conntrack.max(8), Some(262_144));
}

#[test]
fn conntrack_keeps_udp_flows_as_long_as_ipvs_unless_told_otherwise() {
    for (arguments, expected) in [
        (&[][..], None),
        (&["--ipvs-udp-timeout=300s"], Some(300)),
        (
            &[
                "--ipvs-udp-timeout=300s",
                "--conntrack-udp-timeout-stream=1m",
            ],
            None,
        ),
    ] {
        let settings = flags(arguments).expect("good flags");
        let conntrack = settings.host.conntrack;
        assert_eq!(conntrack.udp_stream_at_least, expected, "{arguments:?}");
    }
}

#[test]
fn booleans_are_written_as_in_go() {
    for (argument, expected) in [
        ("--ipvs-strict-arp", true),
        ("--ipvs-strict-arp=true", true),
        ("--ipvs-strict-arp=T", true),
        ("--ipvs-strict-arp=1", true),
        ("--ipvs-strict-arp=false", false),
        ("--ipvs_strict_arp=0", false),
    ] {
        assert_eq!(
            flags(&[argument]).expect(argument).host.strict_arp,
            expected,
            "{argument}"
        );
    }
    assert!(parse(&["--ipvs-strict-arp=yes"]).is_err());
    assert!(
        parse(&["--ipvs-strict-arp", "false"]).is_err(),
        "the value needs its ="
    );
}

#[test]
fn the_last_of_a_repeated_flag_holds_and_lists_grow() {
    let settings = flags(&[
        "--ipvs-scheduler=lc",
        "--ipvs-scheduler=sed",
        "--ipvs-exclude-cidrs=10.0.0.0/8,172.16.0.0/12",
        "--ipvs-exclude-cidrs=fd00::/8",
        "-v4",
        "-v=5",
        "--v=6",
    ])
    .expect("good");
    assert_eq!(settings.scheduler, "sed");
    assert_eq!(settings.exclude_cidrs.len(), 3);
    assert_eq!(settings.log.verbosity, 6);
}

#[test]
fn addresses_get_their_port_and_family() {
    for (arguments, healthz, metrics) in [
        (
            vec!["--bind-address=::"],
            Some("[::]:10256"),
            Some("[::1]:10249"),
        ),
        (
            vec![
                "--healthz-bind-address=10.0.0.1",
                "--metrics-bind-address=fd00::1",
            ],
            Some("10.0.0.1:10256"),
            Some("[fd00::1]:10249"),
        ),
        (
            vec!["--healthz-bind-address=", "--metrics-bind-address="],
            None,
            None,
        ),
        (vec!["--healthz-port=0", "--metrics-port=0"], None, None),
        (
            vec!["--healthz-port=1256", "--metrics-port=1249"],
            Some("0.0.0.0:1256"),
            Some("127.0.0.1:1249"),
        ),
        (
            vec!["--healthz-bind-address=10.0.0.1", "--healthz-port=7"],
            Some("10.0.0.1:7"),
            Some("127.0.0.1:10249"),
        ),
    ] {
        let settings = flags(&arguments).expect("good");
        let address = |x: Option<&str>| x.map(|x| x.parse().expect("an address"));
        assert_eq!(settings.http.healthz, address(healthz), "{arguments:?}");
        assert_eq!(settings.http.metrics, address(metrics), "{arguments:?}");
    }
}

#[test]
fn node_port_addresses_are_networks_and_words_side_by_side() {
    use kube_ipvs_core::NodePortAddresses::{All, Cidrs, Primary, PrimaryAnd};
    use kube_ipvs_core::state::Family::{V4, V6};
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let loopback = ["127.0.0.0/8", "::1/128"];
    let cases: [(_, _, &[_]); 14] = [
        ("all", All, &[]),
        ("primary", Primary, &[]),
        ("primary,primary", Primary, &[]),
        ("primary,all", All, &[]),
        ("all,localhost", All, &[V4, V6]),
        ("primary,10.0.0.0/8", PrimaryAnd(nets(&["10.0.0.0/8"])), &[]),
        ("primary,localhost", PrimaryAnd(nets(&loopback)), &[V4, V6]),
        ("localhost", Cidrs(nets(&loopback)), &[V4, V6]),
        ("127.0.0.1/32", Cidrs(nets(&["127.0.0.1/32"])), &[V4]),
        ("::1/128", Cidrs(nets(&["::1/128"])), &[V6]),
        ("126.0.0.0/7", Cidrs(nets(&["126.0.0.0/7"])), &[V4]),
        ("0.0.0.0/0", Cidrs(nets(&["0.0.0.0/0"])), &[]),
        ("::/0", Cidrs(nets(&["::/0"])), &[]),
        (
            "::/0,127.0.0.0/8",
            Cidrs(nets(&["::/0", "127.0.0.0/8"])),
            &[V4],
        ),
    ];
    for (text, addresses, localhost) in cases {
        let settings = flags(&[&format!("--nodeport-addresses={text}")]).expect(text);
        assert_eq!(settings.node_ports.addresses, addresses, "{text}");
        assert_eq!(settings.node_ports.localhost, localhost, "{text}");
        let both = vec![V4, V6];
        let options = settings.options("node-1".to_owned(), both);
        assert_eq!(options.localhost_node_ports, localhost, "{text}");
    }
    let default = flags(&[]).expect("the default");
    assert_eq!(default.node_ports.localhost, []);
}

#[test]
fn with_a_file_flags_give_way_but_for_name_and_logging() {
    let text =
        "hostnameOverride: filed\nipvs: {scheduler: lc}\nlogging: {format: text, verbosity: 1}\n";
    let arguments = [
        "--hostname-override= Flagged ",
        "--ipvs-scheduler=sed",
        "--v=7",
        "--logging-format=json",
        "--master=https://m",
        "--healthz-port=1",
    ];
    let settings = file_and(text, &arguments).expect("good");
    assert_eq!(settings.hostname.as_deref(), Some("flagged"));
    assert_eq!(settings.scheduler, "lc");
    assert_eq!(settings.log.verbosity, 7);
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.client.master.as_deref(), Some("https://m"));
    let passed: Vec<_> = settings
        .warnings
        .iter()
        .filter(|x| x.contains("passed over"))
        .collect();
    assert_eq!(
        passed,
        [
            "--healthz-port is passed over, because --config is given",
            "--ipvs-scheduler is passed over, because --config is given; set ipvs.scheduler in the file",
        ]
    );
}

#[test]
fn our_own_flags_hold_beside_a_file() {
    let settings = file_and("", &["--vip-binding=route", "--drain-timeout=1m"]).expect("good");
    assert_eq!(settings.vip_binding, VipBinding::Route);
    assert_eq!(settings.drain_timeout.as_secs(), 60);
}

#[test]
fn unknown_and_duplicate_fields_are_named_and_passed_over() {
    let settings = file("ipvs:\n  shceduler: lc\n  scheduler: sed\nfoo: {bar: 1}\nmode: ipvs\n")
        .expect("lenient");
    assert_eq!(settings.scheduler, "sed");
    for name in ["unknown field \"ipvs.shceduler\"", "unknown field \"foo\""] {
        assert!(
            settings.warnings.iter().any(|x| x.contains(name)),
            "{name}: {:?}",
            settings.warnings
        );
    }
    let settings = file("clusterCIDR: 10.0.0.0/8\nclusterCIDR: 10.1.0.0/16\n").expect("lenient");
    assert!(
        settings
            .warnings
            .iter()
            .any(|x| x.contains("duplicate") && x.contains("clusterCIDR")),
        "{:?}",
        settings.warnings
    );
    assert_eq!(
        settings.detect_local,
        DetectLocal::Cidrs(vec!["10.1.0.0/16".parse().expect("a network")])
    );
}

#[test]
fn null_is_as_good_as_absent() {
    let settings =
        file("conntrack:\nipvs:\n  excludeCIDRs: null\niptables: {masqueradeBit: null}\n")
            .expect("good");
    assert_eq!(settings.masquerade_bit, 14);
}

/// (what stands in the file, field, value, words of the reason)
const BAD_FIELDS: &[(&str, &str, &str, &str)] = &[
    ("mode: iptables", "mode", "\"iptables\"", "IPVS only"),
    ("mode: nftables", "mode", "\"nftables\"", "IPVS only"),
    ("mode: 5", "mode", "5", "text"),
    ("bindAddress: here", "bindAddress", "\"here\"", "IP address"),
    (
        "healthzBindAddress: 1.2.3.4:0",
        "healthzBindAddress",
        "\"1.2.3.4:0\"",
        "1 to 65535",
    ),
    (
        "metricsBindAddress: localhost:1",
        "metricsBindAddress",
        "\"localhost:1\"",
        "IP:PORT",
    ),
    (
        "iptables: {masqueradeBit: 32}",
        "iptables.masqueradeBit",
        "32",
        "0 to 31",
    ),
    (
        "iptables: {masqueradeBit: -1}",
        "iptables.masqueradeBit",
        "-1",
        "0 to 31",
    ),
    (
        "iptables: {masqueradeBit: x}",
        "iptables.masqueradeBit",
        "\"x\"",
        "whole number",
    ),
    (
        "iptables: {masqueradeAll: maybe}",
        "iptables.masqueradeAll",
        "\"maybe\"",
        "true, false",
    ),
    ("iptables: [1]", "iptables", "[1]", "mapping"),
    (
        "ipvs: {scheduler: best}",
        "ipvs.scheduler",
        "\"best\"",
        "rr, wrr, lc",
    ),
    (
        "ipvs: {syncPeriod: -1s}",
        "ipvs.syncPeriod",
        "-1s",
        "more than 0s",
    ),
    ("ipvs: {syncPeriod: 30}", "ipvs.syncPeriod", "30", "unit"),
    (
        "ipvs: {minSyncPeriod: -1s}",
        "ipvs.minSyncPeriod",
        "-1s",
        "0s or more",
    ),
    (
        "ipvs: {minSyncPeriod: 1m}",
        "ipvs.minSyncPeriod",
        "1m0s",
        "at most ipvs.syncPeriod",
    ),
    (
        "ipvs: {excludeCIDRs: [a, 10.0.0.0/8]}",
        "ipvs.excludeCIDRs",
        "\"a\"",
        "networks",
    ),
    (
        "ipvs: {excludeCIDRs: 10.0.0.0/8}",
        "ipvs.excludeCIDRs",
        "\"10.0.0.0/8\"",
        "list",
    ),
    (
        "ipvs: {tcpTimeout: -1s}",
        "ipvs.tcpTimeout",
        "-1s",
        "0s or more",
    ),
    (
        "ipvs: {udpTimeout: 745h}",
        "ipvs.udpTimeout",
        "745h0m0s",
        "31 days",
    ),
    (
        "configSyncPeriod: -5m",
        "configSyncPeriod",
        "-5m0s",
        "more than 0s",
    ),
    ("oomScoreAdj: 1001", "oomScoreAdj", "1001", "-1000 to 1000"),
    (
        "oomScoreAdj: 3000000000",
        "oomScoreAdj",
        "3000000000",
        "whole number",
    ),
    (
        "conntrack: {maxPerCore: -1}",
        "conntrack.maxPerCore",
        "-1",
        "0 or more",
    ),
    ("conntrack: {min: -1}", "conntrack.min", "-1", "0 or more"),
    (
        "conntrack: {tcpEstablishedTimeout: -1s}",
        "conntrack.tcpEstablishedTimeout",
        "-1s",
        "0s or more",
    ),
    (
        "conntrack: {udpStreamTimeout: soon}",
        "conntrack.udpStreamTimeout",
        "\"soon\"",
        "unit",
    ),
    (
        "clusterCIDR: 10.0.0.0",
        "clusterCIDR",
        "\"10.0.0.0\"",
        "networks",
    ),
    (
        "clusterCIDR: '10.0.0.0/8,11.0.0.0/8'",
        "clusterCIDR",
        "\"10.0.0.0/8,11.0.0.0/8\"",
        "one of each family",
    ),
    (
        "nodePortAddresses: [primary, Localhost]",
        "nodePortAddresses",
        "\"Localhost\"",
        "the words all, primary, localhost",
    ),
    (
        "nodePortAddresses: [10.0.0.1]",
        "nodePortAddresses",
        "\"10.0.0.1\"",
        "networks",
    ),
    (
        "nodePortAddresses: [1]",
        "nodePortAddresses",
        "[1]",
        "list of texts",
    ),
    (
        "detectLocalMode: Guess",
        "detectLocalMode",
        "\"Guess\"",
        "NodeCIDR",
    ),
    (
        "detectLocalMode: BridgeInterface",
        "detectLocal.bridgeInterface",
        "\"\"",
        "needs it",
    ),
    (
        "detectLocalMode: InterfaceNamePrefix",
        "detectLocal.interfaceNamePrefix",
        "\"\"",
        "needs it",
    ),
    (
        "clientConnection: {burst: -1}",
        "clientConnection.burst",
        "-1",
        "0 or more",
    ),
    (
        "clientConnection: {qps: fast}",
        "clientConnection.qps",
        "\"fast\"",
        "a number",
    ),
    ("hostnameOverride: 7", "hostnameOverride", "7", "quotes"),
    (
        "hostnameOverride: ' '",
        "hostnameOverride",
        "\" \"",
        "name of a Node",
    ),
    (
        "logging: {format: xml}",
        "logging.format",
        "\"xml\"",
        "text, json",
    ),
    (
        "logging: {verbosity: -1}",
        "logging.verbosity",
        "-1",
        "whole number from 0",
    ),
    (
        "logging: {vmodule: x}",
        "logging.vmodule",
        "\"x\"",
        "filePattern",
    ),
    (
        "featureGates: {A: 1}",
        "featureGates",
        "{\"A\":1}",
        "true or false",
    ),
    (
        "featureGates: {PreferSameTrafficDistribution: false}",
        "featureGates.PreferSameTrafficDistribution",
        "false",
        "switched off",
    ),
];

#[test]
fn every_bad_field_is_refused_with_file_field_value_and_what_is_allowed() {
    for (text, field, value, allowed) in BAD_FIELDS {
        let Err(Problems(problems)) = file(text) else {
            panic!("{text} is accepted")
        };
        let [problem] = problems.as_slice() else {
            panic!("{text}: {problems:?}")
        };
        assert_eq!(problem.setting, *field, "{text}");
        assert_eq!(problem.value, *value, "{text}");
        assert!(
            problem.reason.contains(allowed),
            "{text}: {}",
            problem.reason
        );
        assert_eq!(
            problem.to_string(),
            format!("conf: {field}: {value}: {}", problem.reason)
        );
    }
}

#[test]
fn all_that_is_wrong_is_listed() {
    let text: Vec<_> = [
        "oomScoreAdj: 5000",
        "bindAddress: x",
        "iptables: {masqueradeBit: 99, masqueradeAll: 3}",
        "ipvs: {scheduler: y}",
    ]
    .into();
    let Err(problems) = file(&text.join("\n")) else {
        panic!("accepted")
    };
    let shown = problems.to_string();
    for field in [
        "oomScoreAdj",
        "bindAddress",
        "iptables.masqueradeBit",
        "iptables.masqueradeAll",
        "ipvs.scheduler",
    ] {
        assert!(
            shown.contains(&format!("conf: {field}: ")),
            "{field} is missing in {shown}"
        );
    }
}

#[test]
fn bad_values_of_flags_are_refused_by_the_flags_name() {
    for (argument, setting) in [
        ("--iptables-masquerade-bit=32", "--iptables-masquerade-bit"),
        ("--masquerade-bit=-1", "--iptables-masquerade-bit"),
        ("--ipvs-scheduler=best", "--ipvs-scheduler"),
        ("--cluster-cidr=x", "--cluster-cidr"),
        ("--proxy-mode=iptables", "--proxy-mode"),
        ("--allow-external-ips=x", "--allow-external-ips"),
        ("--drain-timeout=-1s", "--drain-timeout"),
        ("--ipvs-scheduler-flags=mh-port", "--ipvs-scheduler-flags"),
        ("--feature-gates=X", "--feature-gates"),
        ("--feature-gates=X=perhaps", "--feature-gates"),
        ("--vmodule=x", "--vmodule"),
        ("--healthz-port=70000", "--healthz-port"),
        ("--ipvs-sync-period=0s", "--ipvs-sync-period"),
        ("--conntrack-min=-1", "--conntrack-min"),
        (
            "--detect-local-mode=BridgeInterface",
            "--pod-bridge-interface",
        ),
    ] {
        let Err(Problems(problems)) = flags(&[argument]) else {
            panic!("{argument} is accepted")
        };
        assert!(
            problems.iter().any(|x| x.setting == setting),
            "{argument}: {problems:?}"
        );
    }
    for argument in [
        "--ipvs-sync-period=30",
        "--oom-score-adj=x",
        "--vip-binding=magic",
        "--nodeport-virtual-servers=magic",
        "--unallocated-cluster-ips=magic",
        "--node-addresses=x",
        "--no-such-flag",
    ] {
        let error = parse(&[argument]).expect_err(argument);
        assert_eq!(error.exit_code(), 2, "{argument}");
    }
}

#[test]
fn a_file_that_is_none_is_refused_whole() {
    for (text, words) in [
        ("", "mapping"),
        ("a: [", "not YAML"),
        ("kind: KubeProxyConfiguration", "missing"),
        ("apiVersion: v1\nkind: ConfigMap", "KubeProxyConfiguration"),
        ("- a", "mapping"),
    ] {
        let Err(problems) = whole_file(text) else {
            panic!("{text:?} is accepted")
        };
        assert!(problems.to_string().contains(words), "{text:?}: {problems}");
    }
    let args = RunArgs {
        config: Some("/no/such/file".into()),
        ..RunArgs::default()
    };
    let problems = super::load(&args).expect_err("there is no such file");
    assert!(
        problems
            .to_string()
            .contains("/no/such/file: cannot be read"),
        "{problems}"
    );
}

#[test]
fn external_ips_are_ignored_unless_allowed() {
    assert!(flags(&[]).expect("good").allow_external_ips.is_empty());
    let all = flags(&["--feature-gates=AllowServiceExternalIPs=true"]).expect("good");
    assert_eq!(all.allow_external_ips.len(), 2);
    let both = [
        "--feature-gates=AllowServiceExternalIPs=false",
        "--allow-external-ips=10.0.0.0/8",
    ];
    assert!(flags(&both).is_err(), "a contradiction");
}

#[test]
fn untracked_services_are_names_and_a_word_and_either_gives_the_table_its_sets() {
    let dns = ServiceName::new("kube-system", "kube-dns");
    let flag = "--ipvs-untracked-services";
    for (arguments, named, annotated) in [
        (vec![], vec![], false),
        (
            vec![format!("{flag}=kube-system/kube-dns")],
            vec![dns.clone()],
            false,
        ),
        (vec![format!("{flag}=annotated")], vec![], true),
        (
            vec![format!("{flag}=annotated,kube-system/kube-dns")],
            vec![dns],
            true,
        ),
    ] {
        let settings = flags(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let settings = settings.expect("valid");
        let options = options(&settings);
        let found: Vec<_> = options.untracked_services.into_iter().collect();
        assert_eq!(found, named, "{arguments:?}");
        assert_eq!(options.untracked_by_annotation, annotated, "{arguments:?}");
        for family in [Family::V4, Family::V6] {
            let table = settings.table(family, &[]);
            assert_eq!(
                table.untracked,
                annotated || !named.is_empty(),
                "{arguments:?}"
            );
        }
    }
}

#[test]
fn annotations_are_honoured_by_their_words() {
    let options = |flag: &[&str]| {
        let settings = flags(flag).expect("good");
        settings.options(String::new(), Vec::new()).annotations
    };
    assert_eq!(options(&[]), None);
    assert_eq!(options(&["--service-annotations=all"]), None);
    assert_eq!(options(&["--service-annotations=none"]), Some(vec![]));
    let some = [
        "--service-annotations=weights",
        "--service-annotations=scheduler,local",
    ];
    assert_eq!(options(&some), Some(vec!["weights", "scheduler", "local"]));
}

#[test]
fn gates_of_pages_switch_them_off() {
    let all = flags(&["--feature-gates=ComponentFlagz=false"]).expect("good");
    assert!(!all.http.flagz && all.http.statusz, "{:?}", all.warnings);
    let all = file("featureGates: {ComponentStatusz: false}").expect("good");
    assert!(all.http.flagz && !all.http.statusz);
    assert_eq!(
        all.warnings
            .iter()
            .filter(|x| x.contains("feature gate"))
            .count(),
        0
    );
}

#[test]
fn flags_are_shown_as_given_or_with_their_default() {
    let settings = file_and(
        "",
        &[
            "--config=conf",
            "--ipvs-exclude-cidrs=10.0.0.0/8,fd00::/8",
            "--v=4",
        ],
    )
    .expect("good");

    let shown: BTreeMap<_, _> = settings.flags.iter().cloned().collect();

    assert_eq!(shown["config"], "conf");
    assert_eq!(shown["ipvs-exclude-cidrs"], "10.0.0.0/8,fd00::/8");
    assert_eq!(shown["v"], "4");
    assert_eq!(shown["cleanup"], "false");
    assert_eq!(shown["bind-address"], "0.0.0.0");
    assert!(settings.flags.is_sorted());
}

#[test]
fn actions() {
    for (arguments, action) in [
        (vec!["--version"], Action::Version { raw: false }),
        (vec!["--version=raw"], Action::Version { raw: true }),
        (vec!["--version=false"], Action::Run),
        (vec!["--cleanup"], Action::Cleanup),
        (vec!["--init-only"], Action::InitOnly),
        (vec!["--once", "--manifests=x"], Action::Once),
        (vec!["--write-config-to=f"], Action::WriteConfig("f".into())),
    ] {
        assert_eq!(
            flags(&arguments).expect("good").action,
            action,
            "{arguments:?}"
        );
    }
}

#[test]
fn levels() {
    let level = super::logging::level;
    assert_eq!(
        [0, 3, 4, 5, 6, 10].map(|x| level(x).to_string()),
        ["INFO", "INFO", "DEBUG", "DEBUG", "TRACE", "TRACE"]
    );
}

#[test]
fn lookups_find_what_there_is() {
    assert_eq!(by_field("mode").map(|x| x.flag), Some("proxy-mode"));
    assert!(by_field("").is_none());
}

#[test]
fn the_document_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flags.md");
    let wanted = docs::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &wanted).expect("docs/flags.md can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/flags.md is old: UPDATE=1 cargo test -p kube-ipvs config"
    );
}

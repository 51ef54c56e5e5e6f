//! Values that make no sense: each is refused by the name of its flag, with
//! exit code 2, or shown to do no harm.

use super::table::{Kind, SETTINGS};
use super::tests::{file, flags, parse};
use super::{Origin, Problems, Settings};

/// What becomes of a value.
#[derive(Debug)]
enum Fate {
    /// The command line does not parse; clap names the flag and the code is 2.
    Unreadable(String),
    /// A problem that names a setting.
    Refused(Problems),
    Accepted(Box<Settings>),
}

fn fate(arguments: &[&str]) -> Fate {
    if let Err(error) = parse(arguments) {
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        return Fate::Unreadable(error.to_string());
    }
    match flags(arguments) {
        Ok(settings) => Fate::Accepted(Box::new(settings)),
        Err(problems) => Fate::Refused(problems),
    }
}

/// Refused, and with what name.
#[track_caller]
fn assert_refused(arguments: &[&str], flag: &str) {
    match fate(arguments) {
        Fate::Unreadable(text) => assert!(text.contains(flag), "{arguments:?}: {text}"),
        Fate::Refused(problems) => {
            assert!(problems.of_flags());
            let mut all = problems.0.iter();
            assert!(
                all.any(|x| x.setting == flag && x.origin == Origin::Flags),
                "{arguments:?}: {problems}"
            );
        }
        Fate::Accepted(settings) => panic!("{arguments:?} is accepted: {settings:?}"),
    }
}

/// By flag: what must not pass. The flag is named in the refusal.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "allow-external-ips",
        &["x", "10.0.0.0", "10.0.0.0/33", " 10.0.0.0/8"],
    ),
    (
        "bind-address",
        &["x", "10.0.0.1:80", " 10.0.0.1", "10.0.0.0/8"],
    ),
    (
        "cluster-cidr",
        &["x", "10.0.0.0/33", "10.0.0.0/8,11.0.0.0/8"],
    ),
    ("config-sync-period", &["-1s", "1", "soon", "9999999999h"]),
    ("conntrack-max-per-core", &["-1", "x", "1e9", "99999999999"]),
    ("conntrack-min", &["-1", "x", "2147483647", " 1"]),
    (
        "conntrack-tcp-timeout-close-wait",
        &["-1s", "500ms", "1.5s", "9000h"],
    ),
    (
        "conntrack-tcp-timeout-established",
        &["-1s", "1ns", "9000h", "1d"],
    ),
    ("conntrack-udp-timeout", &["-1s", "10ms", "9000h"]),
    ("conntrack-udp-timeout-stream", &["-1s", "10ms", "9000h"]),
    ("detect-local-mode", &["x", "clustercidr", " ClusterCIDR"]),
    ("drain-timeout", &["-1s", "x", "5"]),
    ("real-server-sync-period", &["-1s", "0s", "29s", "5", "x"]),
    (
        "feature-gates",
        &["X", "X=perhaps", "AllowServiceExternalIPs=2"],
    ),
    (
        "healthz-bind-address",
        &["x", "1.2.3.4:0", "1.2.3.4:65536", "localhost:1", " 1.2.3.4"],
    ),
    ("healthz-port", &["-1", "65536", "x", "99999999999"]),
    (
        "hostname-override",
        &[" ", "a b", "a/b", "-a", "a,metadata.name=b"],
    ),
    ("iptables-masquerade-bit", &["-1", "32", "x", "300"]),
    ("ipvs-exclude-cidrs", &["x", "10.0.0.1", " 10.0.0.0/8"]),
    ("ipvs-min-sync-period", &["-1s", "31s", "x"]),
    ("ipvs-scheduler", &["best", "RR", " rr"]),
    ("ipvs-scheduler-flags", &["sh-port", "mh-port", "x"]),
    ("ipvs-sync-period", &["-1s", "0s", "1ns", "999ms", "x"]),
    ("ipvs-tcp-timeout", &["-1s", "500ms", "745h", "x"]),
    ("ipvs-tcpfin-timeout", &["-1s", "500ms", "745h"]),
    ("ipvs-udp-timeout", &["-1s", "500ms", "745h"]),
    (
        "ipvs-untracked-services",
        &["kube-dns", "a/b/c", "/b", "A/b", "a/b,Annotated", "a/ b"],
    ),
    ("log-format", &["xml", "Human"]),
    ("logging-format", &["xml", ""]),
    ("manifests", &[""]),
    (
        "api-servers",
        &[
            "x",
            "192.0.2.1",
            "https://192.0.2.1:6443",
            "x:0",
            "a@b:1",
            "x:65536",
            "x y:1",
        ],
    ),
    ("master", &["192.0.2.1", "ftp://x", "https://", "x y"]),
    ("metrics-bind-address", &["x", "1.2.3.4:0", "1.2.3.4:99999"]),
    ("metrics-port", &["-1", "65536", "x"]),
    (
        "node-addresses",
        &[
            "x",
            "127.0.0.1",
            "0.0.0.0",
            "fe80::1",
            "224.0.0.1",
            "10.0.0.0/8",
        ],
    ),
    (
        "nodeport-addresses",
        &["x", "10.0.0.1", "primary,10.0.0.1", "Primary"],
    ),
    (
        "nodeport-reserved-ports",
        &["0", "65536", "22-", "9-8", "ssh", "22, 23", "22/tcp"],
    ),
    ("nodeport-virtual-servers", &["x", ""]),
    ("oom-score-adj", &["-1001", "1001", "x"]),
    ("pod-bridge-interface", BAD_LINKS),
    ("pod-interface-name-prefix", BAD_LINKS),
    ("proxy-mode", &["iptables", "nftables", "IPVS"]),
    (
        "service-annotations",
        &[
            "x",
            "",
            "Scheduler",
            "all,scheduler",
            "none,all",
            "ipvs.kube-ipvs.dev/scheduler",
        ],
    ),
    ("service-proxy-name", &["a b", "a,b!=c", "-a"]),
    ("state-dir", &[""]),
    ("unallocated-cluster-ips", &["x", "", "DROP", "drop,reject"]),
    ("v", &["-1", "x", "4294967296"]),
    ("vip-binding", &["x"]),
    ("vmodule", &["x", "a=-1"]),
];

/// nft would read them otherwise, or not at all.
const BAD_LINKS: &[&str] = &[
    "",
    "a:b",
    "a$b",
    "a\"b",
    "a b",
    "a/b",
    "a*",
    "a\\b",
    "a\tb",
    "ä",
    "a-name-too-long-",
];

#[test]
fn absurd_values_are_refused_by_the_name_of_their_flag() {
    for (flag, values) in REFUSED {
        for value in *values {
            let argument = format!("--{flag}={value}");
            let mode = match *flag {
                "pod-bridge-interface" => "--detect-local-mode=BridgeInterface",
                "pod-interface-name-prefix" => "--detect-local-mode=InterfaceNamePrefix",
                _ => "--events",
            };
            assert_refused(&[mode, &argument], &format!("--{flag}"));
        }
    }
}

/// Any text, a path, or no meaning here: nothing can be wrong with them.
const FREE: &[&str] = &[
    // Its own reader says what is wrong with the file.
    "config",
    "kubeconfig",
    // Another word than `raw` prints the version.
    "version",
    "write-config-to",
];

#[test]
fn every_flag_with_values_that_mean_something_is_tried() {
    for setting in SETTINGS.iter().filter(|x| !x.flag.is_empty()) {
        let tried = REFUSED.iter().any(|(flag, _)| *flag == setting.flag);
        let free = FREE.contains(&setting.flag)
            || matches!(setting.class, super::Class::NoMeaning(_))
            || setting.kind == Kind::Bool;
        assert!(tried || free, "--{} is not tried", setting.flag);
        if setting.kind == Kind::Bool {
            let argument = format!("--{}=perhaps", setting.flag);
            assert_refused(&[&argument], &format!("--{}", setting.flag));
        }
    }
}

#[test]
fn large_values_that_pass_stay_what_they_are() {
    let years = "2000000h";
    let settings = flags(&[
        &format!("--drain-timeout={years}"),
        &format!("--ipvs-sync-period={years}"),
        &format!("--ipvs-min-sync-period={years}"),
        "--v=4294967295",
        "--conntrack-max-per-core=2147483647",
        "--ipvs-udp-timeout=744h",
        "--conntrack-udp-timeout=5965h",
    ])
    .expect("large, and good");
    let seconds = 2_000_000 * 3600;
    assert_eq!(settings.drain_timeout.as_secs(), seconds);
    assert_eq!(settings.sync_period.as_secs(), seconds);
    assert_eq!(settings.min_sync_period.as_secs(), seconds);
    assert_eq!(settings.host.ipvs_timeouts.udp, Some(744 * 3600));
    assert_eq!(settings.host.conntrack.udp_timeout, Some(5965 * 3600));
    assert_eq!(settings.host.conntrack.max(usize::MAX), Some(1_048_576));
}

#[test]
fn one_bit_has_one_meaning() {
    let accept = "--accept-in-foreign-chains";
    for bit in ["--iptables-masquerade-bit=12", "--masquerade-bit=12"] {
        assert_refused(&[accept, bit], "--iptables-masquerade-bit");
        assert!(matches!(fate(&[bit]), Fate::Accepted(_)));
    }
    assert!(matches!(fate(&[accept]), Fate::Accepted(_)));
}

#[test]
fn two_servers_have_two_sockets() {
    let same = [
        "--healthz-bind-address=127.0.0.1:1",
        "--metrics-bind-address=127.0.0.1:1",
    ];
    assert_refused(&same, "--metrics-bind-address");
    let none = ["--healthz-bind-address=", "--metrics-bind-address="];
    assert!(matches!(fate(&none), Fate::Accepted(_)));
}

#[test]
fn a_port_flag_beside_an_address_is_read_too() {
    for flag in ["healthz-port", "metrics-port"] {
        let address = format!("--{}-bind-address=10.0.0.1", &flag[..flag.len() - 5]);
        let port = format!("--{flag}=70000");
        assert_refused(&[&address, &port], &format!("--{flag}"));
    }
}

#[test]
fn a_file_is_to_blame_for_what_stands_in_it_and_flags_for_theirs() {
    let text = "iptables: {masqueradeBit: 40}\n";
    let of_file = file(text).expect_err("bad");
    assert!(!of_file.of_flags());
    let both = super::tests::file_and(text, &["--drain-timeout=-1s"]).expect_err("bad");
    assert!(both.of_flags());
    // What wins over the file is to blame itself.
    let winner = super::tests::file_and("hostnameOverride: node", &["--hostname-override=a b"]);
    let winner = winner.expect_err("bad");
    assert!(
        winner.of_flags() && winner.0[0].setting == "--hostname-override",
        "{winner}"
    );
    for (text, field) in [
        (
            "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: 'a:b'}",
            "detectLocal.bridgeInterface",
        ),
        ("hostnameOverride: a b", "hostnameOverride"),
        ("ipvs: {udpTimeout: 1500ms}", "ipvs.udpTimeout"),
        ("ipvs: {syncPeriod: 1ns}", "ipvs.syncPeriod"),
        ("conntrack: {min: 2000000000}", "conntrack.min"),
        ("metricsBindAddress: 0.0.0.0:10256", "metricsBindAddress"),
    ] {
        let problems = file(text).expect_err(text);
        assert!(
            problems.0.iter().any(|x| x.setting == field),
            "{text}: {problems}"
        );
    }
    let accept = super::tests::file_and(
        "iptables: {masqueradeBit: 12}",
        &["--accept-in-foreign-chains"],
    );
    assert!(
        accept
            .expect_err("one bit")
            .to_string()
            .contains("conf: iptables.masqueradeBit")
    );
}

#[test]
fn a_long_value_is_cut() {
    let problems = flags(&[&format!("--cluster-cidr={}", "x".repeat(5000))]).expect_err("bad");
    assert!(problems.to_string().len() < 400, "{problems}");
}

#[test]
fn zero_leaves_the_kernels_time_out_and_a_file_of_kubeadm_the_default() {
    let times = |settings: Result<Settings, Problems>| {
        let times = settings.expect("good").host.ipvs_timeouts;
        (times.tcp, times.tcp_fin, times.udp)
    };
    assert_eq!(times(flags(&[])), (Some(7800), None, None));
    assert_eq!(times(flags(&["--ipvs-tcp-timeout=0"])), (None, None, None));
    assert_eq!(times(flags(&["--ipvs-tcp-timeout=0s"])), (None, None, None));
    assert_eq!(
        times(flags(&["--ipvs-tcp-timeout=1h"])),
        (Some(3600), None, None)
    );
    assert_eq!(
        times(flags(&["--ipvs-udp-timeout=0", "--ipvs-tcpfin-timeout=0"])),
        (Some(7800), None, None)
    );
    assert_eq!(times(file("")), (Some(7800), None, None));
    assert_eq!(
        times(file(
            "ipvs: {tcpTimeout: 0s, tcpFinTimeout: 0s, udpTimeout: 0s}"
        )),
        (Some(7800), None, None)
    );
    assert_eq!(
        times(file("ipvs: {tcpTimeout: 15m}")),
        (Some(900), None, None)
    );
    let unsaid = |arguments: &[&str]| {
        let warnings = flags(arguments).expect("good").warnings;
        warnings.iter().any(|x| x.contains("cannot be written"))
    };
    assert!(unsaid(&["--ipvs-tcp-timeout=0", "--write-config-to=x"]));
    assert!(!unsaid(&["--write-config-to=x"]));
    let configuration = flags(&[]).expect("good").configuration;
    assert_eq!(configuration.ipvs.tcp_timeout.to_string(), "2h10m0s");
}

#[test]
fn maglev_hashes_ports_as_in_kube_proxy_unless_told_otherwise() {
    let port = |arguments: &[&str]| flags(arguments).expect("good").scheduler_flags.port;
    assert!(port(&["--ipvs-scheduler=mh"]));
    assert!(port(&[
        "--ipvs-scheduler=mh",
        "--ipvs-scheduler-flags=mh-fallback"
    ]));
    assert!(!port(&[
        "--ipvs-scheduler=mh",
        "--ipvs-scheduler-flags=no-mh-port"
    ]));
    assert!(!port(&["--ipvs-scheduler=sh"]));
    assert!(port(&[
        "--ipvs-scheduler=sh",
        "--ipvs-scheduler-flags=sh-port"
    ]));
    assert!(!port(&[]));
    assert!(
        file("ipvs: {scheduler: mh}")
            .expect("good")
            .scheduler_flags
            .port
    );
}

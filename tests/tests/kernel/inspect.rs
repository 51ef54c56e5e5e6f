//! `kube-ipvs inspect` beside `ipvsadm`: the same table, the same arguments,
//! the same bytes.

mod generated;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use kube_ipvs_tests::{Client, Namespace, Protocol, Topology, kube_ipvs, output_of, wait_until};

/// Every kind of service and destination that ipvsadm can make.
const TABLE: &str = "\
-A -t 10.96.0.20:80 -s mh -b mh-port -p 10800
-a -t 10.96.0.20:80 -r 10.244.0.2:8080 -m
-a -t 10.96.0.20:80 -r 10.244.0.10:8080 -m -w 0
-a -t 10.96.0.20:80 -r 10.244.0.10:80 -m -w 65535
-A -t 10.96.0.30:443 -s sh -b sh-fallback,sh-port -p 360 -M 255.255.255.0
-a -t 10.96.0.30:443 -r 192.0.2.9 -g -w 5
-a -t 10.96.0.30:443 -r 127.0.0.1 -g
-A -t 10.96.0.40:80 -s mh -b mh-fallback
-A -t 10.96.0.40:81 -s wlc
-a -t 10.96.0.40:81 -r 203.0.113.7:80 -m -x 100 -y 80
-a -t 10.96.0.40:81 -r 10.244.0.7:80 -m -x 2147483647
-A -t 203.0.113.10:80 -s sed
-A -t 10.0.2.15:80 -s nq
-A -u 10.96.0.10:53 -s rr -o
-a -u 10.96.0.10:53 -r 10.244.0.3:5353 -m
-A -u 10.96.0.10:54 -s rr -o -p 300
-A --sctp-service 10.96.0.10:9999 -s wrr -b flag-1,flag-3
-a --sctp-service 10.96.0.10:9999 -r 10.244.0.4:9999 -m
-A -t [fd00:10:96::a]:80 -s lc
-a -t [fd00:10:96::a]:80 -r [fd00:10:244:1:2:3:4:5]:8080 -m -w 100
-a -t [fd00:10:96::a]:80 -r [fd00:10:244::2]:8080 -m
-A -u [fd00:10:96::b]:53 -s rr -p 100 -M 64
-A -f 1 -s rr
-a -f 1 -r 10.1.1.2 -i --tun-type gue --tun-port 6080 --tun-csum
-a -f 1 -r 10.1.1.3 -i --tun-type gue --tun-port 6081 --tun-remcsum
-a -f 1 -r 10.1.1.4 -i --tun-type gre
-a -f 1 -r 10.1.1.5 -i
-a -f 1 -r 10.1.1.6:8080 -m
-A -f 2 -6 -s wlc
-a -f 2 -6 -r [fd00:1::2]:80 -m
-A -f 3000000000 -s lblc -p 600
";

/// What is asked of both programs.
const LISTINGS: [&str; 25] = [
    "-Ln",
    "-l -n",
    "-L -n --sort",
    "-Ln --nosort",
    "-Ln --stats",
    "-Ln --stats --exact",
    "-Ln --stats --nosort",
    "-Ln --rate",
    "-Ln --rate -X",
    "-Ln --stats --rate",
    "-Ln --thresholds",
    "-Ln --persistent-conn",
    "-Ln --tun-info",
    "-Ln --thresholds --persistent-conn --tun-info",
    "-Sn",
    "-S -n",
    "-Ln -t 10.96.0.20:80",
    "-Ln --stats -t 10.96.0.20:80",
    "-Ln --thresholds -t 10.96.0.40:81",
    "-Ln -t [fd00:10:96::a]:80",
    "-Ln -u 10.96.0.10:53",
    "-Ln --sctp-service 10.96.0.10:9999",
    "-Ln -f 1 --tun-info",
    "-Ln -f 2 -6",
    "-L --timeout",
];

fn program(namespace: &Namespace, table: &str) {
    for rule in table.lines() {
        let words = rule.split_whitespace();
        output_of(namespace.command("ipvsadm").args(words));
    }
}

fn theirs(namespace: &Namespace, arguments: &str) -> String {
    output_of(
        namespace
            .command("ipvsadm")
            .args(arguments.split_whitespace()),
    )
}

fn ours(namespace: &Namespace, arguments: &str) -> String {
    let words = ["inspect"].into_iter().chain(arguments.split_whitespace());
    output_of(&mut kube_ipvs(namespace, words))
}

/// Fails unless both print the same, and gives it. What moves by itself (rates,
/// seconds that a connection has left) is looked at again until it stood still
/// while all three looks were taken.
#[track_caller]
fn same(namespace: &Namespace, arguments: &str) -> String {
    let mut seen = (String::new(), String::new());
    wait_until(
        &format!("ipvsadm {arguments} prints the same twice"),
        Duration::from_secs(60),
        || {
            let before = theirs(namespace, arguments);
            let between = ours(namespace, arguments);
            let still = theirs(namespace, arguments) == before;
            seen = (before, between);
            still
        },
    );
    let (theirs, ours) = seen;
    assert_eq!(
        ours, theirs,
        "{arguments}\n--- ours\n{ours}--- ipvsadm's\n{theirs}"
    );
    theirs
}

#[test]
fn every_listing_is_ipvsadms_byte_for_byte() {
    let namespace = Namespace::enter();
    program(&namespace, TABLE);
    for arguments in LISTINGS {
        let printed = same(&namespace, arguments);
        assert!(!printed.is_empty(), "{arguments} prints nothing");
    }
}

#[test]
fn an_empty_table_and_new_timeouts_are_listed_alike() {
    let namespace = Namespace::enter();
    for arguments in ["-Ln", "-Ln --stats", "-Sn", "-Lnc", "-L --daemon"] {
        same(&namespace, arguments);
    }
    program(&namespace, "--set 3600 77 12");
    let printed = same(&namespace, "-L --timeout");
    assert_eq!(printed, "Timeout (tcp tcpfin udp): 3600 77 12\n");
}

#[test]
fn what_we_save_ipvsadm_restores() {
    let namespace = Namespace::enter();
    // ipvsadm writes a mark from 2^31 as a negative number, which it refuses.
    let (table, _) = TABLE.split_once("-A -f 3000000000").expect("it is there");
    program(&namespace, table);
    let saved = ours(&namespace, "-Sn");
    program(&namespace, "-C");
    assert_eq!(theirs(&namespace, "-Sn"), "");
    program(&namespace, &saved);
    assert_eq!(theirs(&namespace, "-Sn"), saved);
}

#[test]
fn connections_and_counters_are_listed_alike_while_connections_live() {
    let small = Topology::small();
    let node = &small.node.namespace;
    let [p1, p2] = &small.pods;
    let _servers = [
        p1.serve(Protocol::Tcp, 8080),
        p2.serve(Protocol::Tcp, 8080),
        p1.serve(Protocol::Udp, 5353),
        p1.serve_v6(Protocol::Tcp, 8080),
    ];
    node.sh("ip addr add 10.96.0.10/32 dev lo; ip addr add fd00:96::10/128 dev lo");
    let (v4, other, v6) = (p1.v4, p2.v4, p1.v6);
    program(
        node,
        &format!(
            "-A -t 10.96.0.10:80 -s rr\n\
             -a -t 10.96.0.10:80 -r {v4}:8080 -m\n\
             -a -t 10.96.0.10:80 -r {other}:8080 -m\n\
             -A -t 10.96.0.10:81 -s rr -p 10800\n\
             -a -t 10.96.0.10:81 -r {v4}:8080 -m\n\
             -A -u 10.96.0.10:53 -s rr\n\
             -a -u 10.96.0.10:53 -r {v4}:5353 -m\n\
             -A -t [fd00:96::10]:80 -s rr\n\
             -a -t [fd00:96::10]:80 -r [{v6}]:8080 -m\n"
        ),
    );
    let client = Client::within(&small.outside.namespace);
    let fronts = [
        "10.96.0.10:80",
        "10.96.0.10:80",
        "10.96.0.10:81",
        "[fd00:96::10]:80",
    ];
    let mut held = fronts.map(|front| client.connect(Protocol::Tcp, front).expect("it answers"));
    for connection in &mut held {
        connection.ask().who();
    }
    client.call(Protocol::Tcp, "10.96.0.10:80").who();
    client.call(Protocol::Udp, "10.96.0.10:53").who();

    let connections = same(node, "-Lnc");
    for word in ["ESTABLISHED", "UDP", "[fd00:96::10]:80", "10.96.0.10:81"] {
        assert!(connections.contains(word), "no {word} in\n{connections}");
    }
    same(node, "-Lnc --persistent-conn");
    same(node, "-Lc");
    let json = ours(node, "-Lc -o json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        json["connections"].as_array().map(Vec::len),
        Some(connections.lines().count() - 2),
        "{json}"
    );
    let persistent = same(node, "-Ln --persistent-conn");
    assert!(persistent.contains(&v4.to_string()), "{persistent}");
    for arguments in [
        "-Ln",
        "-Ln --stats",
        "-Ln --stats --exact",
        "-Ln --rate",
        "-Ln --thresholds",
    ] {
        same(node, arguments);
    }
}

/// Runs ours with rules on standard input; its exit code and what it said.
fn told(namespace: &Namespace, arguments: &str, input: &str) -> (Option<i32>, String) {
    let words = ["inspect"].into_iter().chain(arguments.split_whitespace());
    let mut command = kube_ipvs(namespace, words);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start kube-ipvs");
    let stdin = child.stdin.take().expect("stdin is piped");
    // One that does not read is no fault of this test.
    _ = { stdin }.write_all(input.as_bytes());
    let output = child.wait_with_output().expect("wait for kube-ipvs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn what_is_restored_is_read_whole_and_leaves_the_daemon_alone() {
    let namespace = Namespace::enter();
    program(&namespace, TABLE);
    let saved = theirs(&namespace, "-Sn");
    program(&namespace, "-C");
    let (code, said) = told(&namespace, "-R", &format!("{saved}-A -t web\n"));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("nothing was changed: \"web\" is not"),
        "{said}"
    );
    assert_eq!(theirs(&namespace, "-Sn"), "");

    let state = kube_ipvs_tests::daemon::state_directory(&namespace);
    std::fs::create_dir_all(&state).expect("make the state directory");
    let record = state.join("owned.json");
    let owned = r#"{"virtual_servers":{"10.96.0.20:80/TCP":"default/web:http"}}"#;
    std::fs::write(&record, owned).expect("write the record");
    let (code, said) = told(&namespace, "--restore", &saved);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("10.96.0.20:80/TCP is the daemon's"), "{said}");
    assert_eq!(theirs(&namespace, "-Sn"), "");

    let (code, said) = told(&namespace, "--restore --force", &saved);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(theirs(&namespace, "-Sn"), saved);
    let (code, said) = told(&namespace, "-R --force", &saved);
    assert_eq!(code, Some(1), "all is there already: {said}");
    assert!(said.contains("line 1: add virtual server"), "{said}");
    assert!(said.contains("more rules were refused"), "{said}");
}

#[test]
fn what_is_refused_ends_as_it_should() {
    let namespace = Namespace::enter();
    program(&namespace, "-A -t 10.96.0.10:80 -s rr");
    let code = |arguments: &str| told(&namespace, arguments, "");
    for arguments in [
        "-Ln",
        "-Ln -t 10.96.0.10:80",
        "-Z",
        "-Z -t 10.96.0.10:80",
        "-S",
    ] {
        assert_eq!(code(arguments).0, Some(0), "{arguments}");
        theirs(&namespace, arguments);
    }
    let (refused, said) = code("-Z -t 10.96.0.99:80");
    assert_eq!(refused, Some(1), "{said}");
    assert!(said.contains("10.96.0.99:80/TCP"), "{said}");
    for (arguments, why) in [
        ("-Lc -t 10.96.0.10:80", "cannot be used with"),
        ("-Lc --stats", "cannot be used with"),
        ("-L --timeout --persistent-conn", "cannot be used with"),
        ("-S --stats", "cannot be used with"),
        ("-Ln -n", "cannot be used multiple times"),
        ("-Ln -t nowhere.invalid:80", "is not ADDRESS:PORT"),
        ("-A -t 10.96.0.11:80", "inspect has no --add-service (-A)"),
        ("-Ln --stat", "--stats"),
    ] {
        let (ours, said) = code(arguments);
        assert_eq!(ours, Some(64), "{arguments}: {said}");
        assert!(said.contains(why), "{arguments}: {said}");
    }
    for arguments in [
        "-Lc -t 10.96.0.10:80",
        "-Lc --stats",
        "-S --stats",
        "-Ln -n",
    ] {
        let mut command = namespace.command("ipvsadm");
        let output = command.args(arguments.split(' ')).output();
        let status = output.expect("ipvsadm runs").status;
        assert!(!status.success(), "ipvsadm {arguments}");
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let namespace = Namespace::enter();
    let asked = ["inspect", "-Ln", "-t", "10.96.0.99:80"];
    let output = kube_ipvs(&namespace, asked)
        .output()
        .expect("kube-ipvs runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("10.96.0.99:80/TCP"), "{message}");
    assert!(output.stdout.is_empty(), "nothing half-printed");
}

//! The harness itself, and what the guest must be able to do.

use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{
    Client, Namespace, Protocol, Server, Small, Topology, Verdict, kube_ipvs, output_of, run,
    run_with_input,
};

const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf",
];

#[test]
fn a_namespace_starts_empty_and_keeps_to_itself() {
    let first = Namespace::enter();
    run("ipvsadm", ["-A", "-t", "10.96.0.10:80", "-s", "rr"]);
    let second = Namespace::child("other");

    assert_eq!(run("ipvsadm", ["-Sn"]), "-A -t 10.96.0.10:80 -s rr\n");
    assert_eq!(second.run(|| run("ipvsadm", ["-Sn"])), "");
    assert_eq!(
        run("ipvsadm", ["-Sn"]),
        first.run(|| run("ipvsadm", ["-Sn"]))
    );
}

#[test]
fn every_scheduler_loads_by_itself() {
    let _namespace = Namespace::enter();

    for (number, scheduler) in SCHEDULERS.iter().enumerate() {
        run(
            "ipvsadm",
            ["-A", "-t", &format!("10.96.0.{number}:80"), "-s", scheduler],
        );
    }

    assert_eq!(run("ipvsadm", ["-Sn"]).lines().count(), SCHEDULERS.len());
}

#[test]
fn tables_are_restored_from_text() {
    let _namespace = Namespace::enter();
    let table = "-A -u 10.96.0.10:53 -s wlc\n-a -u 10.96.0.10:53 -r 10.244.0.7:53 -m -w 1\n";

    run_with_input("ipvsadm", ["-R"], table);

    assert_eq!(run("ipvsadm", ["-Sn"]), table);
}

#[test]
fn the_guest_has_what_tests_ask_for() {
    let _namespace = Namespace::enter();

    run("ip", ["link", "add", "kube-ipvs0", "type", "dummy"]);
    run_with_input(
        "nft",
        ["-f", "-"],
        "table ip t {
            chain c {
                type nat hook postrouting priority 100
                meta mark and 0x4000 != 0 masquerade fully-random
            }
            chain i {
                type filter hook input priority 0
                ct state established accept
                reject
            }
        }",
    );
    run("ipset", ["create", "s", "hash:ip,port"]);
    run(
        "iptables",
        [
            "-t",
            "nat",
            "-A",
            "POSTROUTING",
            "-m",
            "set",
            "--match-set",
            "s",
            "dst,dst",
            "-j",
            "MASQUERADE",
        ],
    );
    run("conntrack", ["-L"]);
    assert!(run("curl", ["--version"]).starts_with("curl"));
}

#[test]
fn a_topology_answers_directly_over_every_protocol_and_family() {
    let Small {
        node,
        pods,
        outside,
        topology,
    } = Topology::small();
    let second = topology.node();
    let other = second.pod("p3");
    for protocol in Protocol::ALL {
        let _v4 = pods[0].serve(protocol, 8080);
        let _v6 = pods[0].serve_v6(protocol, 8080);
        let v4 = format!("{}:8080", pods[0].v4);
        let v6 = format!("[{}]:8080", pods[0].v6);

        for (from, address) in [
            (&node.namespace, &v4),
            (&other.namespace, &v4),
            (&other.namespace, &v6),
        ] {
            let verdict = Client::within(from).call(protocol, address);
            assert!(
                matches!(&verdict, Verdict::Answered { who, .. } if who == "p1"),
                "{protocol} from {} to {address}: {verdict:?}",
                from.name()
            );
        }
        assert_eq!(
            Client::within(&other.namespace).call(protocol, &v4).saw(),
            other.v4
        );
    }
    assert_eq!(
        Client::within(&node.namespace).call(Protocol::Tcp, "10.244.1.2:9"),
        Verdict::Refused
    );
    assert_eq!(
        Client::within(&outside.namespace).call(Protocol::Tcp, "10.244.1.2:8080"),
        Verdict::Unreachable
    );
}

#[test]
fn a_virtual_server_alternates_between_the_pods_of_a_topology() {
    let Small {
        node,
        pods,
        outside,
        topology: _lan,
    } = Topology::small();
    let _servers = [
        pods[0].serve(Protocol::Tcp, 8080),
        pods[1].serve(Protocol::Tcp, 8080),
    ];
    let _inside = node.namespace.inside();
    run("ip", ["addr", "add", "10.96.0.10/32", "dev", "lo"]);
    run_with_input(
        "ipvsadm",
        ["-R"],
        "-A -t 10.96.0.10:80 -s rr\n-a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m\n\
         -a -t 10.96.0.10:80 -r 10.244.1.3:8080 -m\n",
    );

    let mut callees = Client::within(&outside.namespace).callees(Protocol::Tcp, "10.96.0.10:80", 4);

    assert_ne!(callees[0], callees[1]);
    assert_eq!(callees[..2], callees[2..]);
    callees.sort();
    assert_eq!(callees, ["p1", "p1", "p2", "p2"]);
}

#[test]
fn a_connection_stays_and_ends_with_its_server() {
    let namespace = Namespace::enter();
    let server = Server::start(&namespace, "s", Protocol::Tcp, "127.0.0.1:8080");
    let mut connection = Client::here()
        .port(4711)
        .connect(Protocol::Tcp, "127.0.0.1:8080")
        .expect("it listens");

    let answered = Verdict::Answered {
        who: "s".into(),
        saw: "127.0.0.1:4711".parse().expect("an address"),
    };
    assert_eq!(
        [connection.ask(), connection.ask()],
        [answered.clone(), answered]
    );
    drop(server);
    assert_eq!(connection.ask(), Verdict::Reset);
}

#[test]
fn the_program_under_test_is_there() {
    let namespace = Namespace::enter();

    output_of(&mut kube_ipvs(&namespace, ["--help"]));

    assert!(state_directory(&namespace).is_dir());
}

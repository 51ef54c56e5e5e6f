//! The harness itself, and what the guest must be able to do.

use kube_ipvs_tests::{Namespace, run, run_with_input};

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

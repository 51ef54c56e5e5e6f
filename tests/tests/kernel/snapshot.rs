//! Everything of a namespace that a Service proxy could touch, as text.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kube_ipvs_tests::{Namespace, run};

/// What other programs show, by what was asked.
pub(crate) fn snapshot(namespace: &Namespace) -> BTreeMap<String, String> {
    const SHOWN: [(&str, &[&str]); 8] = [
        ("ipvsadm", &["-Sn"]),
        ("ipvsadm", &["-L", "--timeout"]),
        ("nft", &["list", "ruleset"]),
        ("ip", &["-4", "route", "show", "table", "all"]),
        ("ip", &["-6", "route", "show", "table", "all"]),
        ("ip", &["rule", "show"]),
        ("ip", &["link", "show"]),
        ("ip", &["address", "show"]),
    ];
    namespace.run(|| {
        let mut all = BTreeMap::new();
        for (program, arguments) in SHOWN {
            let asked = format!("{program} {}", arguments.join(" "));
            let shown = match program {
                "ipvsadm" => ipvsadm(arguments),
                _ => without_link_local(&run(program, arguments)),
            };
            all.insert(asked, shown);
        }
        for part in ["net/ipv4", "net/ipv6", "net/netfilter"] {
            sysctls(&Path::new("/proc/sys").join(part), &mut all);
        }
        all
    })
}

/// Without what comes by itself a second after a link went up: the kernel's
/// routes for link-local addresses, once it knows that they are nobody else's.
fn without_link_local(shown: &str) -> String {
    let lines = shown
        .lines()
        .filter(|line| !line.contains(" fe80::") && !line.starts_with("fe80::"));
    lines
        .map(|line| line.replace(" tentative", "") + "\n")
        .collect()
}

/// What ipvsadm shows, each line once, and twice the same: a kernel counts the
/// services of all namespaces while it lists those of one, so what other tests
/// add or remove meanwhile makes it repeat or skip some.
fn ipvsadm(arguments: &[&str]) -> String {
    let shown = || {
        let mut lines: Vec<String> = Vec::new();
        for line in run("ipvsadm", arguments).lines() {
            if !lines.iter().any(|known| known == line) {
                lines.push(line.to_owned());
            }
        }
        lines.join("\n")
    };
    let mut last = shown();
    for _ in 0..20 {
        let next = shown();
        if next == last {
            return next;
        }
        last = next;
    }
    panic!("ipvsadm {arguments:?} shows another table each time:\n{last}");
}

/// Panics with what differs between two snapshots.
#[track_caller]
pub(crate) fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let keys = before.keys().chain(after.keys());
    let mut differences: Vec<String> = keys
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let [before, after] =
                [before, after].map(|all| all.get(key).map_or("(nothing)", String::as_str));
            format!("{key}\n--- before\n{before}\n--- after\n{after}")
        })
        .collect();
    differences.dedup();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

fn sysctls(directory: &Path, into: &mut BTreeMap<String, String>) {
    /// It counts.
    const LIVELY: &str = "nf_conntrack_count";
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("list {directory:?}: {e}"));
    for entry in entries {
        let path = entry.expect("list sysctls").path();
        if path.is_dir() {
            sysctls(&path, into);
        } else if !path.ends_with(LIVELY) {
            // Some cannot be read: write-only, or not set.
            let value = fs::read_to_string(&path).unwrap_or_default();
            into.insert(path.display().to_string(), value);
        }
    }
}

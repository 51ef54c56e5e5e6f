//! What is wrong on a node, and what to do about it.

use std::collections::BTreeSet;

use kube_ipvs_core::state::{Family, VirtualServerKey};
use kube_ipvs_nft::Hook;
use serde::Serialize;

use super::Facts;
use crate::answers::{Held, LoopReport, NodeReport};
use crate::explain::Seen;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Wrong {
    /// What.
    pub(super) what: String,
    /// What to do about it.
    pub(super) remedy: String,
}

impl Wrong {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (what, remedy) = (what.into(), remedy.into());
        Self { what, remedy }
    }
}

const WAIT: &str = "wait for --ipvs-sync-period: the running kube-ipvs puts it right; \
                    if it does not, its log says why";
const START: &str = "start kube-ipvs on this node: it puts it right";

/// All of it, what lies deepest first.
pub(super) fn wrongs(facts: &Facts) -> Vec<Wrong> {
    let mut all = of_daemon(facts);
    if let Ok(Some(told)) = &facts.told {
        all.extend(of_report(told));
    }
    match &facts.blind {
        Some(why) => all.push(Wrong::new(
            format!("what the kernel holds cannot be seen: {why}"),
            "as it says; `kube-ipvs check` looks at all that kube-ipvs needs of this node",
        )),
        None => all.extend(of_kernel(facts)),
    }
    all
}

/// Whether one runs, and answers.
fn of_daemon(facts: &Facts) -> Vec<Wrong> {
    let Facts { told, seen, .. } = facts;
    let log = "see its log; kubectl logs of the node's pod has it";
    let wrong = match told {
        Ok(None) if seen.runs => Wrong::new(
            "the kube-ipvs that runs here does not listen for questions",
            log,
        ),
        Ok(None) => Wrong::new(
            match facts.blind {
                Some(_) => "no kube-ipvs runs here: what one left, if any, follows no change",
                None => seen.without_daemon(),
            },
            "start it; `kube-ipvs check` says what may keep it from running",
        ),
        Err(why) => Wrong::new(
            format!("the kube-ipvs that runs here cannot be asked: {why}"),
            log,
        ),
        // In a long round it says how far that is.
        Ok(Some(told)) if told.of_loop.is_none() && told.progress.is_none() => Wrong::new(
            "the loop of the kube-ipvs that runs here does not answer: it is in the middle of a \
             round, or hangs",
            "ask again; if it stays so, see its log",
        ),
        Ok(Some(_)) => return Vec::new(),
    };
    vec![wrong]
}

fn of_report(told: &NodeReport) -> Vec<Wrong> {
    let reasons = told.reasons.iter();
    let mut all: Vec<Wrong> = reasons
        .map(|(word, reason)| Wrong::new(format!("not ready: {word}: {reason}"), remedy(word)))
        .collect();
    let others = told.of_loop.iter().flat_map(|told| &told.other_proxies);
    let others: Vec<&str> = others.map(String::as_str).collect();
    if !others.is_empty() {
        all.push(Wrong::new(
            format!(
                "another Service proxy works on this node: {}; two proxies undo each other's work",
                others.join(", ")
            ),
            "stop it here (of kube-proxy: by the node selector of its DaemonSet)",
        ));
    }
    if let Some(LoopReport {
        refused_count: n @ 1..,
        ..
    }) = told.of_loop
    {
        let (things, are) = if n == 1 {
            ("thing", "is")
        } else {
            ("things", "are")
        };
        all.push(Wrong::new(
            format!("the kernel refuses {n} {things} of Services, which {are} tried again"),
            "as the errors say; `kube-ipvs explain` tells each Service's clients",
        ));
    }
    all
}

/// What to do about a reason against readiness.
fn remedy(word: &str) -> &'static str {
    match word {
        "api" => {
            "see that the API server can be reached, that the rights of deploy/base/rbac.yaml are \
             given, and that the node's name is right (--hostname-override)"
        }
        "manifests" => "mend the file that is named; until then nothing is removed",
        "nodes" => "give the right to list Nodes (deploy/base/rbac.yaml)",
        "first-sync" | "source" => "wait; if it stays so, its log says why",
        "sync" => "as the error says; it is tried again by itself",
        _ => "see its log",
    }
}

fn of_kernel(facts: &Facts) -> Vec<Wrong> {
    let Facts {
        told, seen, still, ..
    } = facts;
    let held = super::held(told).filter(|_| *still);
    let remedy = if seen.runs { WAIT } else { START };
    let missing = match held {
        Some(held) => differences(&held, &super::page::held_in(seen)),
        // One that runs and says nothing may be making just these.
        None if seen.runs => Vec::new(),
        None => missing(seen),
    };
    let missing = missing.into_iter().map(|what| Wrong::new(what, remedy));
    let sysctls = sysctls(seen);
    let sysctls = sysctls.into_iter().map(|what| Wrong::new(what, remedy));
    missing.chain(sysctls).chain(chains(seen, true)).collect()
}

/// Where the kernel does not hold what the daemon left there.
fn differences(expected: &Held, found: &Held) -> Vec<String> {
    let of = |noun: &str, expected: usize, found: usize| {
        (expected != found).then(|| {
            format!(
                "the kernel holds {found} {noun} of Services, and kube-ipvs left {expected}: \
                 somebody else changed them"
            )
        })
    };
    let parts = [
        of(
            "virtual servers",
            expected.virtual_servers,
            found.virtual_servers,
        ),
        of("real servers", expected.real_servers, found.real_servers),
        of("addresses", expected.vips, found.vips),
        of("rows in our nftables table", expected.rows, found.rows),
    ];
    parts.into_iter().flatten().collect()
}

/// What the record alone shows to be missing.
fn missing(seen: &Seen) -> Vec<String> {
    let ours: BTreeSet<&VirtualServerKey> = seen.recorded.keys().collect();
    let there = |key: &&&VirtualServerKey| seen.state.virtual_servers.contains_key(**key);
    let n = ours.iter().filter(there).count();
    let mut all = Vec::new();
    if n < ours.len() {
        all.push(format!(
            "of {} virtual servers on record {n} are in IPVS",
            ours.len()
        ));
    }
    let table = &seen.state.table;
    if !ours.is_empty() && table.rows.is_empty() && table.guarded.is_empty() {
        all.push("our nftables table is empty or gone: nothing is guarded".to_owned());
    }
    let elsewhere = ours
        .iter()
        .filter_map(|key| key.front())
        .find(|front| !seen.host.contains(&front.address) && !front.address.is_loopback());
    if elsewhere.is_some() && seen.state.vips.is_empty() && seen.routed.is_empty() {
        all.push("no address of a Service is bound here".to_owned());
    }
    all
}

/// Sysctls without which Services do not work, where there are some.
fn sysctls(seen: &Seen) -> Vec<String> {
    let families: BTreeSet<Family> = seen.recorded.keys().map(|key| key.family()).collect();
    let mut needed = Vec::new();
    if families.contains(&Family::V4) {
        needed.push((
            "net/ipv4/ip_forward",
            "answers of endpoints are not forwarded",
        ));
    }
    if families.contains(&Family::V6) {
        let effect = "answers of endpoints are not forwarded";
        needed.push(("net/ipv6/conf/all/forwarding", effect));
    }
    if !families.is_empty() {
        needed.push((
            "net/ipv4/vs/conntrack",
            "what IPVS sends is not masqueraded",
        ));
    }
    let off = needed.into_iter().filter_map(|(path, effect)| {
        let is = seen.is_off(path)?;
        Some(format!("{} is {is}: {effect}", path.replace('/', ".")))
    });
    off.collect()
}

/// Chains of others that drop Service traffic or the answers to it: all of it
/// (`surely`), or what their rules do not let pass.
pub(super) fn chains(seen: &Seen, surely: bool) -> Vec<Wrong> {
    let families: BTreeSet<Family> = seen.recorded.keys().map(|key| key.family()).collect();
    let mut found: Vec<Wrong> = Vec::new();
    let all = families.into_iter().flat_map(|family| {
        [Hook::Input, Hook::Forward].map(|hook| seen.dropping(family, hook).collect::<Vec<_>>())
    });
    for chain in all.flatten().filter(|chain| chain.drops_all == surely) {
        let what = match chain.hook {
            Hook::Input => "Service traffic",
            Hook::Forward => "answers of endpoints",
        };
        let remedy = if chain.is_reachable() {
            "let Service traffic pass in that chain, or run with --accept-in-foreign-chains"
        } else {
            "let Service traffic pass in that chain; its priority is out of our reach"
        };
        let wrong = Wrong::new(format!("{chain}: {what} may not pass"), remedy);
        if !found.contains(&wrong) {
            found.push(wrong);
        }
    }
    found
}

//! Facts in, one page out.

use kube_ipvs_core::row::{Row, Verdict};
use kube_ipvs_core::state::{RealServer, VirtualServer, VirtualServerKey};
use kube_ipvs_dataplane::progress::Made;
use kube_ipvs_nft::{ForeignChain, Hook, Reason};

use super::*;
use crate::answers::{AuditPace, LastRound, LoopReport, RefusedThere};

const WEB: &str = "10.96.0.10:80/TCP";

fn key() -> VirtualServerKey {
    WEB.parse().expect("a key")
}

/// A Service with two endpoints, as it should be.
fn seen() -> Seen {
    let mut seen = Seen {
        runs: true,
        ..Seen::default()
    };
    let weight = RealServer {
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let reals = ["10.244.1.2:8080", "10.244.1.3:8080"];
    let web = VirtualServer {
        scheduler: "rr".into(),
        flags: Default::default(),
        persistence: None,
        real_servers: reals
            .iter()
            .map(|at| (at.parse().expect("a real server"), weight))
            .collect(),
    };
    let front = key().front().expect("a front");
    seen.state.virtual_servers.insert(key(), web.into());
    seen.state.vips.insert(front.address);
    seen.state.table.guarded.insert(front.address);
    seen.state.table.rows.insert(front, Row::of(Verdict::Serve));
    seen.recorded.insert(key(), "default/web:http".into());
    for path in ["net/ipv4/ip_forward", "net/ipv4/vs/conntrack"] {
        seen.sysctls.insert(path, "1".into());
    }
    seen
}

fn told() -> NodeReport {
    let held = Held {
        virtual_servers: 1,
        real_servers: 2,
        draining: Some(1),
        vips: 1,
        rows: 1,
    };
    let last = LastRound {
        trigger: "change".into(),
        seconds_ago: 75,
        took_ms: 3,
        changes: "real server +1".into(),
        complete: true,
    };
    NodeReport {
        pid: 17,
        source_age_seconds: Some(0),
        of_loop: Some(LoopReport {
            node: "node-1".into(),
            services: 1,
            endpoint_slices: 2,
            fronts: [("ClusterIP".to_owned(), 1)].into(),
            held: Some(held),
            last: Some(last),
            audit: Some(AuditPace {
                seconds: 30,
                real_servers_seconds: 360,
            }),
            ..LoopReport::default()
        }),
        ..NodeReport::new("2026-01-02T03:04:05Z".parse().expect("a time"))
    }
}

fn well() -> Facts {
    Facts {
        told: Ok(Some(told())),
        seen: seen(),
        blind: None,
        still: true,
    }
}

fn page(facts: &Facts) -> String {
    let now = "2026-01-02T06:09:05Z".parse().expect("a time");
    Page::at(facts, now).to_string()
}

#[test]
fn a_node_that_is_well_is_one_page() {
    let facts = well();

    assert!(Page::of(&facts).well);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        page(&facts),
        format!(
            "kube-ipvs {version} on node-1  running for 3 h 5 min, since 2026-01-02T03:04:05Z, process 17
  state         well
  source        up to date: 1 Service, 2 EndpointSlices
  last sync     1 min ago (change), took 3 ms: real server +1
  drift         none in the last hour
  audit         real servers within 6 min, all else within 30 s
  kernel        1 virtual server, 2 real servers (1 drain), 1 VIP, 1 row
  fronts        ClusterIP 1
"
        )
    );
}

/// A page about a node that has no IPVS is better than none.
#[test]
fn a_kernel_that_cannot_be_seen_is_what_is_wrong() {
    let mut facts = well();
    facts.seen = Seen::default();
    facts.blind = Some("open IPVS: no such family (ENOENT); load it with `modprobe ip_vs`".into());

    let text = page(&facts);
    assert!(
        text.contains("  state         1 thing is wrong\n"),
        "{text}"
    );
    assert!(text.contains("cannot be seen: open IPVS"), "{text}");
    assert!(text.contains("  kernel        not seen\n"), "{text}");
    let json = serde_json::to_value(Page::of(&facts)).expect("JSON");
    assert_eq!(json["kernel"], serde_json::Value::Null);
    assert_eq!(json["well"], false);
}

fn without_daemon(facts: &mut Facts) {
    facts.told = Ok(None);
    facts.seen.runs = false;
}

fn report(facts: &mut Facts, change: impl FnOnce(&mut NodeReport)) {
    if let Ok(Some(told)) = &mut facts.told {
        change(told);
    }
}

fn chain(drops_all: bool) -> ForeignChain {
    ForeignChain {
        family: "inet".into(),
        table: "fw".into(),
        chain: "in".into(),
        hook: Hook::Input,
        priority: 0,
        reason: Reason::Policy,
        accept_bits: 0,
        drops_all,
    }
}

/// What is wrong after a change, and what is said to be done about it.
fn wrong(change: impl FnOnce(&mut Facts)) -> Vec<(String, String)> {
    let mut facts = well();
    change(&mut facts);
    let wrong = wrong::wrongs(&facts).into_iter();
    wrong.map(|one| (one.what, one.remedy)).collect()
}

#[test]
fn each_thing_that_is_wrong_is_named_with_its_remedy() {
    type Case = (
        &'static str,
        Vec<(String, String)>,
        &'static [(&'static str, &'static str)],
    );
    let cases: Vec<Case> = vec![
        ("well", wrong(|_| ()), &[]),
        (
            "no daemon",
            wrong(without_daemon),
            &[(
                "no kube-ipvs runs here: what it left serves on, ",
                "start it",
            )],
        ),
        (
            "no daemon, and nothing of one",
            wrong(|facts| {
                without_daemon(facts);
                facts.seen = Seen::default();
            }),
            &[(
                "no kube-ipvs runs here, and nothing of one is left",
                "start it",
            )],
        ),
        (
            "no daemon, and the kernel is not seen",
            wrong(|facts| {
                without_daemon(facts);
                facts.seen = Seen::default();
                facts.blind = Some("no IPVS".to_owned());
            }),
            &[
                ("no kube-ipvs runs here: what one left, if any,", "start it"),
                ("cannot be seen: no IPVS", "as it says"),
            ],
        ),
        (
            "deaf",
            wrong(|facts| facts.told = Ok(None)),
            &[("does not listen for questions", "see its log")],
        ),
        (
            "cannot be asked",
            wrong(|facts| facts.told = Err("Permission denied".into())),
            &[("cannot be asked: Permission denied", "see its log")],
        ),
        (
            "hangs",
            wrong(|facts| report(facts, |told| told.of_loop = None)),
            &[("does not answer", "ask again")],
        ),
        (
            "not ready",
            wrong(|facts| {
                report(facts, |told| {
                    let why = "no word from the API server for 301 s".to_owned();
                    told.reasons.insert("api".into(), why);
                });
            }),
            &[(
                "not ready: api: no word from the API server for 301 s",
                "--hostname-override",
            )],
        ),
        (
            "refused",
            wrong(|facts| {
                report(facts, |told| {
                    told.of_loop.as_mut().expect("there").refused_count = 2;
                })
            }),
            &[("the kernel refuses 2 things", "as the errors say")],
        ),
        (
            "another proxy",
            wrong(|facts| {
                report(facts, |told| {
                    let others = &mut told.of_loop.as_mut().expect("there").other_proxies;
                    others.push("nft table ip kube-proxy".into());
                });
            }),
            &[(
                "another Service proxy works on this node: nft table ip kube-proxy;",
                "stop it here",
            )],
        ),
        (
            "flushed",
            wrong(|facts| facts.seen.state.virtual_servers.clear()),
            &[
                (
                    "holds 0 virtual servers of Services, and kube-ipvs left 1",
                    "--ipvs-sync-period",
                ),
                (
                    "holds 0 real servers of Services, and kube-ipvs left 2",
                    "--ipvs-sync-period",
                ),
            ],
        ),
        (
            "unbound",
            wrong(|facts| facts.seen.state.vips.clear()),
            &[("holds 0 addresses of Services", "--ipvs-sync-period")],
        ),
        (
            "table gone",
            wrong(|facts| facts.seen.state.table = Default::default()),
            &[("holds 0 rows in our nftables table", "--ipvs-sync-period")],
        ),
        (
            "flushed, no daemon",
            wrong(|facts| {
                without_daemon(facts);
                facts.seen.state = Default::default();
            }),
            &[
                ("no kube-ipvs runs here", "start it"),
                (
                    "of 1 virtual servers on record 0 are in IPVS",
                    "start kube-ipvs",
                ),
                ("our nftables table is empty or gone", "start kube-ipvs"),
                ("no address of a Service is bound here", "start kube-ipvs"),
            ],
        ),
        (
            "no forwarding",
            wrong(|facts| _ = facts.seen.sysctls.insert("net/ipv4/ip_forward", "0".into())),
            &[("net.ipv4.ip_forward is 0", "--ipvs-sync-period")],
        ),
        (
            "firewall",
            wrong(|facts| facts.seen.chains.push(chain(true))),
            &[(
                "policy drop: Service traffic may not pass",
                "--accept-in-foreign-chains",
            )],
        ),
    ];
    for (name, found, expected) in cases {
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for ((what, remedy), (says, does)) in found.iter().zip(expected) {
            assert!(what.contains(says), "{name}: {what}");
            assert!(remedy.contains(does), "{name}: {remedy}");
        }
    }
}

#[test]
fn what_changes_meanwhile_or_may_be_being_made_is_not_held_against_anybody() {
    let flushed = |facts: &mut Facts| facts.seen.state = Default::default();
    let moving = wrong(|facts| {
        flushed(facts);
        facts.still = false;
    });
    assert_eq!(moving, []);
    let long_round = wrong(|facts| {
        flushed(facts);
        report(facts, |told| {
            told.of_loop = None;
            told.progress = Some(Made { done: 0, all: 4000 });
        });
    });
    assert_eq!(long_round, []);
}

#[test]
fn a_firewall_that_cannot_be_judged_is_a_note() {
    let mut facts = well();
    facts.seen.chains.push(chain(false));

    let text = page(&facts);

    assert!(text.contains("  state         well\n"), "{text}");
    assert!(text.contains("  note          nft table inet fw"), "{text}");
}

#[test]
fn the_page_tells_of_refusals_warnings_drift_and_progress() {
    let mut facts = well();
    report(&mut facts, |told| {
        told.progress = Some(Made {
            done: 1500,
            all: 4000,
        });
        told.source_age_seconds = Some(400);
        let away = "Service cannot be followed: connection refused";
        told.warnings.insert("api".into(), away.into());
        told.warnings
            .insert("other-proxy".into(), "told elsewhere".into());
        let of_loop = told.of_loop.as_mut().expect("there");
        of_loop.refused.push(RefusedThere {
            what: format!("virtual server {WEB}"),
            service: Some("default/web".into()),
            error: "no such scheduler (ENOENT)".into(),
        });
        of_loop.refused_count = 3;
        of_loop
            .warnings
            .push("Service default/web: spec.ports: none".into());
        of_loop.warning_count = 1;
        of_loop.drift.insert("add-vip".into(), 4);
    });

    let text = page(&facts);

    for line in [
        "  state         1 thing is wrong\n",
        "  note          Service cannot be followed: connection refused\n",
        "  source        last heard 6 min ago: ",
        "  progress      1500 of 4000 virtual servers are made\n",
        "  drift         put back in the last hour: add-vip 4; ",
        "  refused       virtual server 10.96.0.10:80/TCP (default/web): no such scheduler (ENOENT)\n",
        "  refused       and 2 more\n",
        "  warning       Service default/web: spec.ports: none\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(!text.contains("told elsewhere"), "{text}");
    report(&mut facts, |told| told.source_age_seconds = Some(0));
    let text = page(&facts);
    assert!(!text.contains("up to date"), "it cannot be: {text}");
}

#[test]
fn json_is_typed() {
    let page = serde_json::to_value(Page::of(&well())).expect("JSON");

    assert_eq!(page["version"], 1);
    assert_eq!(page["well"], true);
    assert_eq!(page["daemon"]["loop"]["held"]["real_servers"], 2);
    assert_eq!(page["daemon"]["since"], "2026-01-02T03:04:05Z");
    assert_eq!(page["kernel"]["rows"], 1);
    assert_eq!(page["wrong"], serde_json::json!([]));
}

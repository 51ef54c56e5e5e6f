//! Annotations and the operator's defaults.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fixtures::*;
use crate::k8s::Service;
use crate::state::{Flags, VirtualServer};
use crate::{Cluster, Event, Options};

const OURS: &str = "ipvs.kube-ipvs.dev";

fn compiled(options: Options, service: Service) -> (Vec<VirtualServer>, Vec<String>) {
    let mut cluster = cluster_with(options);
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);
    let servers = cluster.state().virtual_servers.into_values();
    let servers = servers.map(alloc::sync::Arc::unwrap_or_clone).collect();
    let warnings = cluster.warnings().into_iter().map(|w| w.message).collect();
    (servers, warnings)
}

/// Scheduler and flags in words, and the number of warnings.
fn tuned(notes: &[(&str, &str)]) -> (String, usize) {
    let service = notes.iter().fold(web(), |service, (name, value)| {
        service.annotation(name, value)
    });
    let (servers, warnings) = compiled(options(), service);
    let server = &servers[0];
    let words = server.flags.words(&server.scheduler);
    let all = [&[server.scheduler.as_str()], words.as_slice()].concat();
    (all.join(" "), warnings.len())
}

#[test]
fn annotations_set_scheduler_and_flags() {
    let scheduler = &format!("{OURS}/scheduler");
    let flags = &format!("{OURS}/scheduler-flags");
    let router = "kube-router.io/service.scheduler";
    let router_flags = "kube-router.io/service.schedflags";
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, usize);
    let table: &[Row<'_>] = &[
        (&[], "rr", 0),
        (&[(scheduler, "lc")], "lc", 0),
        (&[(scheduler, "ovf")], "ovf", 0),
        (&[(scheduler, "fastest")], "rr", 1),
        (&[(scheduler, "")], "rr", 1),
        (&[(router, "lc")], "lc", 0),
        (&[(router, "lc"), (scheduler, "wlc")], "wlc", 0),
        // Both hash schedulers fall back unless told otherwise.
        (&[(scheduler, "mh")], "mh mh-fallback", 0),
        (&[(scheduler, "sh")], "sh sh-fallback", 0),
        (
            &[(scheduler, "mh"), (flags, "mh-port")],
            "mh mh-fallback mh-port",
            0,
        ),
        (
            &[(scheduler, "mh"), (flags, "no-mh-fallback, mh-port")],
            "mh mh-port",
            0,
        ),
        (
            &[(scheduler, "sh"), (flags, "sh-port,mh-port")],
            "sh sh-fallback sh-port",
            1,
        ),
        (
            &[(scheduler, "sh"), (flags, "sh-port,no-sh-port")],
            "sh sh-fallback",
            0,
        ),
        (&[(scheduler, "mh"), (flags, "quick")], "mh mh-fallback", 1),
        (&[(flags, "mh-port")], "rr", 1),
        (
            &[(router, "mh"), (router_flags, "flag-1,flag-2")],
            "mh mh-fallback mh-port",
            0,
        ),
        (&[(router, "rr"), (router_flags, "flag-1")], "rr", 0),
    ];
    for (notes, wanted, warnings) in table {
        assert_eq!(tuned(notes), ((*wanted).to_owned(), *warnings), "{notes:?}");
    }
}

#[test]
fn the_operators_scheduler_and_flags_are_the_default() {
    let mut options = options();
    options.scheduler = "mh".to_owned();
    options.flags = Flags {
        port: true,
        ..Flags::default()
    };
    let words = |service| {
        let (servers, _) = compiled(options.clone(), service);
        let server = &servers[0];
        (
            server.scheduler.clone(),
            server.flags.words(&server.scheduler),
        )
    };
    assert_eq!(words(web()), ("mh".into(), vec!["mh-fallback", "mh-port"]));
    let mh = |flags| ("mh".into(), flags);
    let noted = |name: &str, value| web().annotation(&format!("{OURS}/{name}"), value);
    assert_eq!(words(noted("scheduler", "rr")), ("rr".into(), vec![]));
    // Two ways to hash by address alone; a scheduler that is named means the
    // same on every node.
    let alone = noted("scheduler-flags", "no-mh-port");
    assert_eq!(words(alone), mh(vec!["mh-fallback"]));
    assert_eq!(words(noted("scheduler", "mh")), mh(vec!["mh-fallback"]));
}

#[test]
fn one_packet_is_for_udp_ports_alone() {
    let both = bare("web", &["10.96.0.1"])
        .port("t", "TCP", 80)
        .port("u", "UDP", 80);
    let note = format!("{OURS}/one-packet");
    let (servers, warnings) = compiled(options(), both.clone().annotation(&note, "true"));
    let flags: Vec<bool> = servers
        .iter()
        .map(|server| server.flags.one_packet)
        .collect();
    assert_eq!(flags, [false, true]);
    assert!(warnings.is_empty());

    let (servers, warnings) = compiled(options(), both.annotation(&note, "yes"));
    assert!(servers.iter().all(|server| !server.flags.one_packet));
    assert_eq!(warnings.len(), 1);
    let (_, warnings) = compiled(options(), web().annotation(&note, "true"));
    assert_eq!(warnings.len(), 1, "no port is UDP");
}

#[test]
fn thresholds_are_those_of_each_real_server() {
    let (upper, lower) = (
        format!("{OURS}/upper-threshold"),
        format!("{OURS}/lower-threshold"),
    );
    let table = [
        ("100", "50", "weight 1 upper 100 lower 50", 0),
        ("100", "0", "weight 1 upper 100", 0),
        ("100", "200", "weight 1 upper 100", 1),
        ("many", "0", "weight 1", 1),
        ("-1", "7", "weight 1", 2),
    ];
    for (up, low, wanted, count) in table {
        let service = web().annotation(&upper, up).annotation(&lower, low);
        let (servers, warnings) = compiled(options(), service);
        let real = servers[0].real_servers.values().next().unwrap();
        assert_eq!((real.to_string().as_str(), warnings.len()), (wanted, count));
    }
}

#[test]
fn an_annotation_that_changes_takes_effect_in_place() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let before = cluster.state();
    cluster.add(web().annotation(&format!("{OURS}/scheduler"), "lc"));
    assert_lines(
        &plan(&before, &cluster.state()),
        "virtual server  edit  10.96.0.1:80/TCP lc",
    );
}

#[test]
fn annotations_of_others_are_not_kept() {
    let mut cluster = cluster();
    cluster.add(web().annotation("example.org/large", "x"));
    cluster.compile();
    cluster.add(web().annotation("example.org/large", "y"));
    assert!(!cluster.is_dirty());
}

#[test]
fn a_scheduler_that_the_kernel_lacks_falls_back_until_it_is_there() {
    let named = |scheduler| web().annotation(&format!("{OURS}/scheduler"), scheduler);
    let mut cluster = cluster();
    for service in [named("twos"), service("other", "10.96.0.2")] {
        cluster
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7")]);
    }
    let scheduler = |cluster: &mut Cluster| {
        let server = &cluster.state().virtual_servers[&"10.96.0.1:80/TCP".parse().unwrap()];
        server.scheduler.clone()
    };
    assert_eq!(scheduler(&mut cluster), "twos");
    assert!(cluster.wanted_schedulers().eq(["twos"]));

    cluster.apply(Event::MissingSchedulers(["twos".to_owned()].into()));
    assert_eq!(cluster.compile().len(), 1, "the other is not concerned");
    assert_eq!(scheduler(&mut cluster), "rr");
    assert_eq!(
        cluster.warnings()[0].message,
        "annotation ipvs.kube-ipvs.dev/scheduler: \"twos\" is not in this node's kernel \
         (ip_vs_twos); the default, rr, is used"
    );

    cluster.apply(Event::MissingSchedulers([].into()));
    assert_eq!(scheduler(&mut cluster), "twos");
    assert_eq!(cluster.warnings(), []);

    cluster.add(named("lc"));
    assert!(cluster.wanted_schedulers().eq(["lc"]));
    cluster.remove(named("lc"));
    assert_eq!(cluster.wanted_schedulers().count(), 0);
}

#[test]
fn the_operators_scheduler_never_falls_back() {
    let options = Options {
        scheduler: "twos".to_owned(),
        ..options()
    };
    let mut cluster = cluster_with(options);
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);

    cluster.apply(Event::MissingSchedulers(["twos".to_owned()].into()));

    let state = cluster.state();
    assert!(
        state
            .virtual_servers
            .values()
            .all(|s| s.scheduler == "twos")
    );
}

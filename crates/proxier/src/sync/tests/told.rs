//! What others are told, and what the loop makes of its own failures.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kube_ipvs_core::plan::Op;
use kube_ipvs_core::state::{Family, Front, Protocol};
use kube_ipvs_core::{Event, HostAddress, Kind};
use kube_ipvs_source::tasks::Tasks;
use kube_ipvs_vip::Notice;
use nix::errno::Errno;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::clock::{TIMES, stage, stage_with};
use super::fake::{Fake, Fate};
use super::first_lists::{BALANCED, OTHER_NODE_PORT, edge};
use super::objects::{node_port, upsert};
use super::schedulers::named;
use super::{DNS, Host, WEB, dns, endpoints, key, lists, move_web, tell, web};
use crate::health::Health;
use crate::health::connections::Connections;
use crate::health::node_ports::HealthCheckPorts;
use crate::localhost::LocalhostNodePorts;
use crate::metrics::Metrics;
use crate::sync::driver::Driver;
use crate::sync::reporter::Reporter;

fn node(metadata: Value, spec: Value) -> Event {
    let mut node = json!({"metadata": {"name": "node-1"}, "spec": spec});
    let named = node["metadata"].as_object_mut().unwrap();
    named.extend(metadata.as_object().unwrap().clone());
    upsert(Kind::Node, node)
}

#[test]
fn a_node_on_its_way_out_takes_no_new_traffic() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        let taint = json!({"taints": [{
            "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule",
        }]});
        let leaving = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for (node, eligible) in [
            (node(json!({}), json!({})), true),
            (node(json!({}), taint), false),
            (node(leaving, json!({})), false),
            (node(json!({}), json!({})), true),
        ] {
            stage.tell([node.clone()]).await;
            sleep(Duration::from_secs(2)).await;
            assert_eq!(stage.health.report().node_eligible, eligible, "{node:?}");
        }
    });
}

#[test]
fn a_warning_is_told_once_and_again_when_it_comes_back() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage
            .tell(lists([named("fastest"), endpoints("web", "TCP", &[])]))
            .await;
        for (service, told) in [("fastest", 1), ("lc", 1), ("fastest", 2)] {
            stage.tell([named(service)]).await;
            sleep(Duration::from_secs(2)).await;
            let warnings = stage.warnings();
            assert_eq!(warnings.len(), told, "{warnings:?}");
        }
    });
}

#[test]
fn after_lost_notices_the_hosts_addresses_are_read_too() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.tell(lists(edge())).await;
        sleep(Duration::from_secs(5)).await;

        stage.fake.kernel().host = vec![HostAddress {
            address: "198.51.100.7".parse().unwrap(),
            prefix: 24,
            link: "eth0".to_owned(),
        }];
        stage.notice(Notice::Lost);
        sleep(Duration::from_secs(2)).await;

        let servers = stage.fake.state().virtual_servers;
        assert!(servers.contains_key(&key(OTHER_NODE_PORT)));
    });
}

#[test]
fn a_success_forgets_how_often_it_had_failed() {
    let host = Host::new();
    stage(&host, |stage| async move {
        stage.fake.kernel().observe_fails = Some(Errno::ENOBUFS);
        stage.tell(lists(web(&["10.1.0.1"]))).await;
        // The pauses are at their longest, then all is well.
        sleep(Duration::from_secs(300)).await;
        stage.fake.heal();
        sleep(Duration::from_secs(61)).await;
        assert_eq!(stage.fake.weight(WEB, "10.1.0.1:8080"), Some(1));

        stage.fake.kernel().observe_fails = Some(Errno::ENOBUFS);
        stage.notice(Notice::Link);
        sleep(Duration::from_secs(2)).await;
        let tries = stage.fake.kernel().observed;
        sleep(Duration::from_secs(8)).await;
        let tries = stage.fake.kernel().observed - tries;
        assert!(tries >= 2, "{tries} more in eight seconds");
    });
}

#[test]
fn what_waits_for_the_first_clean_round_is_done_once_and_not_before() {
    let host = Host::new();
    let done = Rc::new(Cell::new(0));
    let counted = done.clone();
    let settles =
        |driver: Driver<Fake>| driver.once_settled(move |_| counted.set(counted.get() + 1));
    stage_with(
        &host,
        |reporter, _| reporter,
        settles,
        |stage| async move {
            stage.fake.hook(|_, op| match op {
                Op::Table(_) => Fate::Refused(Errno::EPERM),
                _ => Fate::Done,
            });
            stage.tell(lists(web(&["10.1.0.1"]))).await;
            sleep(Duration::from_secs(10)).await;
            assert_eq!(done.get(), 0);
            stage.fake.heal();
            sleep(Duration::from_secs(100)).await;
            assert_eq!(done.get(), 1);
        },
    );
}

/// `edge`, whose health check is at this port.
fn checked(port: u16) -> [Event; 2] {
    let [_, slice] = edge();
    let service = json!({
        "metadata": {"name": "edge", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "externalTrafficPolicy": "Local", "healthCheckNodePort": port,
            "ports": [{"name": "", "protocol": "TCP", "port": 80, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCED}]}},
    });
    [upsert(Kind::Service, service), slice]
}

#[test]
fn a_health_check_port_that_another_program_has_is_let_through_when_it_is_ours() {
    let host = Host::new();
    let other = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let front = Front {
        address: BALANCED.parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
    };
    let fake = host.fake.clone();
    let passes = move || {
        let state = fake.state();
        state.row(&front).is_some_and(|row| row.verdict.is_open())
    };
    let answers = |reporter: Reporter, health: &Health| {
        let connections = Connections::at_most(Tasks::unwatched(), 64);
        reporter.with_health_checks(HealthCheckPorts::new(connections, health.clone()))
    };
    stage_with(
        &host,
        answers,
        |driver| driver,
        |stage| async move {
            stage.tell(lists(checked(port))).await;
            sleep(Duration::from_secs(5)).await;
            let vip = BALANCED.parse().unwrap();
            assert!(stage.fake.state().vips.contains(&vip));
            assert!(!passes(), "behind it is the other program");

            drop(other);
            sleep(TIMES.sync_period * 2).await;
            assert!(passes());
        },
    );
}

#[test]
fn a_loopback_port_that_another_program_has_is_told_once_and_opened_when_it_is_free() {
    let mut host = Host::new();
    host.options.localhost_node_ports = vec![Family::V4];
    let metrics = Metrics::new();
    let listening = |reporter: Reporter, _: &Health| {
        let ports = LocalhostNodePorts::new(Tasks::unwatched(), metrics.clone());
        reporter.with_localhost(ports)
    };
    let listeners = || {
        let line = "kubeproxy_nftables_localhost_nodeport_listeners{ip_family=\"IPv4\"} 1\n";
        metrics.render(std::time::Instant::now()).contains(line)
    };
    stage_with(
        &host,
        listening,
        |driver| driver,
        |stage| async move {
            // Keeps the port from being given to others, without listening.
            let kept = tokio::net::TcpSocket::new_v4().unwrap();
            kept.set_reuseaddr(true).unwrap();
            kept.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let at = kept.local_addr().unwrap();
            let other = std::net::TcpListener::bind(at).unwrap();
            let objects = [
                node_port("web", "10.96.0.1", at.port()),
                endpoints("web", "TCP", &["10.1.0.1"]),
            ];
            stage.tell(lists(objects)).await;
            sleep(5 * TIMES.sync_period).await;
            assert!(!listeners());
            let warnings = stage.warnings();
            let of_port = warnings.iter().filter(|x| x.contains("127.0.0.1"));
            assert_eq!(of_port.count(), 1, "{warnings:?}");
            assert_eq!(stage.not_ready(), BTreeMap::new());

            drop(other);
            sleep(2 * TIMES.sync_period).await;
            assert!(listeners());
        },
    );
}

#[test]
fn sysctls_that_were_changed_are_recorded() {
    let host = Host::new();
    host.fake.kernel().sysctls_changed = 2;

    let mut syncer = host.started(web(&["10.1.0.1"]));

    assert_eq!(syncer.record().record().sysctls.len(), 2);
}

#[test]
fn flows_are_forgotten_once_and_never_those_of_tcp() {
    let host = Host::new();
    let all = dns(&["10.1.0.1", "10.1.0.2"]).into_iter();
    let mut syncer = host.started(all.chain(web(&["10.1.0.3", "10.1.0.4"])));
    host.fake.kernel().forgotten.clear();

    move_web(&mut syncer, &["10.1.0.3"]);
    assert_eq!(host.fake.kernel().forgotten, []);

    tell(&mut syncer, [endpoints("dns", "UDP", &["10.1.0.1"])]);
    move_web(&mut syncer, &["10.1.0.3", "10.1.0.4"]);
    let forgotten = host.fake.kernel().forgotten.clone();
    assert_eq!(forgotten.len(), 1);
    assert!(forgotten[0].keys().map(ToString::to_string).eq([DNS]));
}

#[test]
fn a_scheduler_that_nobody_names_any_more_is_not_asked_for() {
    let host = Host::new();
    host.fake.kernel().lacks = ["twos"].into();
    stage(&host, |stage| async move {
        let objects = [named("twos"), endpoints("web", "TCP", &["10.1.0.1"])];
        stage.tell(lists(objects)).await;
        sleep(Duration::from_secs(5)).await;
        stage.tell(web(&["10.1.0.1"])).await;
        sleep(Duration::from_secs(5)).await;
        let asked = stage.fake.kernel().asked_for.len();

        sleep(5 * TIMES.sync_period).await;
        assert_eq!(stage.fake.kernel().asked_for.len(), asked);
    });
}

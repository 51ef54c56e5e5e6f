//! What an object may cost: warnings, fronts, real servers, source ranges.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ipnet::IpNet;

use crate::Cluster;
use crate::event::Kind;
use crate::fixtures::*;
use crate::k8s::{Service, ServiceCidr, ServicePort};
use crate::model::Model;
use crate::names::Warning;
use crate::object::Object;
use crate::state::{Front, VirtualServerKey};

/// Warnings about a Service with a slice, both as bad as may be.
fn warnings(service: Service) -> Vec<Warning> {
    let mut cluster = cluster();
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);
    cluster.compile();
    cluster.warnings()
}

#[test]
fn an_annotation_has_one_warning_however_much_is_wrong_in_it() {
    let many: Vec<String> = (0..47_989).map(|n| format!("f{n}")).collect();
    let service = web().annotation("ipvs.kube-ipvs.dev/scheduler-flags", &many.join(","));

    let all = warnings(service);

    assert_eq!(
        all[0].message,
        "annotation ipvs.kube-ipvs.dev/scheduler-flags: \"f0\", \"f1\", \"f10\" and 47986 more \
         are no flags of scheduler rr; they are ignored"
    );
    assert_eq!(all.len(), 1);
}

#[test]
fn a_value_of_a_megabyte_is_shown_cut_wherever_it_stands() {
    let huge = "x".repeat(1_000_000);
    let mut service = web().load_balancer(&huge).external_ip(&huge);
    let names = [
        "scheduler",
        "scheduler-flags",
        "one-packet",
        "upper-threshold",
        "lower-threshold",
    ];
    for name in names {
        service = service.annotation(&format!("ipvs.kube-ipvs.dev/{name}"), &huge);
    }
    let service = service.port(&huge, "TCP", 80).with(|s| {
        s.spec.cluster_ips.push(huge.clone());
        s.spec.load_balancer_source_ranges.push(huge.clone());
        s.spec.session_affinity = Some(huge.clone());
        s.spec.internal_traffic_policy = Some(huge.clone());
        s.spec.external_traffic_policy = Some(huge.clone());
        s.status.load_balancer.ingress[0].ip_mode = Some(huge.clone());
    });
    let service = service.port("p", &huge, 81);
    let mut cluster = cluster();
    let bad = slice(&service, [ep(&huge)]);
    cluster.add(service.clone()).add(bad);
    let mut other = slice(&web(), []).named("other");
    other.address_type = huge.clone();
    let mut cidr = ServiceCidr::default();
    cidr.spec.cidrs.push(huge.clone());
    cluster.add(other).add(Object::from(cidr));
    cluster.compile();

    let all = cluster.warnings();

    assert!(all.len() >= 15, "{all:#?}");
    for warning in all {
        assert!(warning.message.len() < 400, "{}", warning.message);
    }
}

#[test]
fn an_object_has_twenty_warnings_whichever_it_is() {
    let many = || (0..5000).map(|n| format!("bad-{n}"));
    let mut service = web();
    service.spec.external_ips.extend(many());
    let mut bad = slice(&service, []);
    bad.endpoints = many().map(|text| ep(&text)).collect();
    let mut cidr = ServiceCidr::default();
    cidr.spec.cidrs = many().collect();
    let mut cluster = cluster();
    cluster.add(service).add(Object::from(cidr));
    (0..100).for_each(|n| _ = cluster.add(bad.clone().named(&format!("web-{n}"))));
    cluster.compile();

    let all = cluster.warnings();

    let of = |kind: &str| {
        all.iter()
            .filter(|w| w.object.to_string().starts_with(kind))
            .count()
    };
    assert_eq!((of("Service "), of("ServiceCIDR ")), (20, 20));
    // All slices of a Service together have as many as one object.
    assert_eq!(of("EndpointSlice "), 20);
    assert!(
        all.iter()
            .any(|w| w.message.contains("more warnings are not shown"))
    );
    let service = all
        .iter()
        .rev()
        .find(|w| w.object.to_string().starts_with("Service "));
    assert!(service.is_some());
}

#[test]
fn claims_that_are_lost_count_too() {
    let mut cluster = cluster();
    let older = (1..200)
        .fold(web(), |s, n| s.port(&format!("p{n}"), "TCP", 1000 + n))
        .created("2026-01-01T00:00:00Z");
    let younger = older.clone().created("2026-02-01T00:00:00Z");
    let younger = younger.with(|s| s.metadata.name = "other".to_owned());
    cluster.add(older).add(younger);
    cluster.compile();

    assert_eq!(cluster.warnings().len(), 20);
}

#[test]
fn an_object_that_does_not_decode_is_told_of_in_a_line() {
    let huge = "x".repeat(1_000_000);
    let json = serde_json::json!({
        "metadata": {"name": huge, "namespace": "default"}, "spec": {"ports": huge},
    });

    let error = Object::decode(Kind::Service, json).unwrap_err().to_string();

    assert!(error.len() < 1100, "{}", error.len());
    assert!(error.contains("spec.ports: invalid type"), "{error}");
}

/// Ports that are no neighbours, and networks that do not join.
fn restricted(ports: u16, networks: usize) -> Service {
    let service = bare("web", &["10.96.0.1"]).load_balancer("203.0.113.5");
    let service = (0..ports).fold(service, |s, n| {
        s.port(&format!("p{n}"), "TCP", 1000 + 2 * i64::from(n))
    });
    service.with(|s| {
        let networks = (0..networks).map(|n| format!("10.{}.{}.0/24", n / 128, n % 128 * 2));
        s.spec.load_balancer_source_ranges = networks.collect();
    })
}

/// Restricted fronts, networks that they share, and warnings.
fn counts(service: &Service) -> (usize, usize, Vec<String>) {
    let mut cluster = cluster();
    cluster
        .add(service.clone())
        .endpoints(service, [ep("10.244.1.7")]);
    let rows = cluster.state().table.rows.into_values();
    let sources: Vec<_> = rows.filter_map(|row| row.sources).collect();
    let shared: BTreeMap<_, usize> = sources
        .iter()
        .map(|all| (all.as_ptr(), all.len()))
        .collect();
    let warnings = cluster.warnings().into_iter().map(|w| w.message).collect();
    (sources.len(), shared.into_values().sum(), warnings)
}

#[test]
fn the_ports_of_an_address_share_its_source_ranges() {
    assert_eq!(counts(&restricted(100, 1000)), (100, 1000, vec![]));
    assert_eq!(counts(&restricted(1000, 3000)), (1000, 3000, vec![]));
}

#[test]
fn the_same_range_many_times_counts_once() {
    let mut service = restricted(100, 1000);
    let ranges = &mut service.spec.load_balancer_source_ranges;
    *ranges = vec![ranges.clone(); 20].concat();
    assert_eq!(counts(&service), (100, 1000, vec![]));
}

#[test]
fn with_too_many_source_ranges_nobody_is_let_in() {
    let (fronts, sources, warnings) = counts(&restricted(100, 4096));
    assert_eq!((fronts, sources, warnings.len()), (100, 0, 1));
    assert!(
        warnings[0].starts_with("loadBalancerSourceRanges: 4097 networks")
            && warnings[0].contains("more than 4096; nobody is let in"),
        "{warnings:?}"
    );
    // Each address of the load balancer counts.
    let two = restricted(100, 3000).load_balancer("203.0.113.6");
    assert_eq!(counts(&two).1, 0);
}

/// Three Services that share the address of a load balancer port by port.
fn sharing() -> [Service; 3] {
    let at = |name: &str, ip: &str, ports: [i64; 2], net: &[&str]| {
        let service = bare(name, &[ip]).load_balancer("203.0.113.5");
        let service = service
            .port("a", "TCP", ports[0])
            .port("b", "TCP", ports[1]);
        service.with(|s| {
            s.spec.load_balancer_source_ranges = net.iter().map(ToString::to_string).collect();
        })
    };
    [
        at(
            "one",
            "10.96.0.1",
            [80, 84],
            &["10.0.0.0/8", "172.16.0.0/12"],
        ),
        at("two", "10.96.0.2", [81, 83], &["10.0.0.0/9"]),
        at("open", "10.96.0.3", [82, 85], &[]),
    ]
}

fn cluster_of(services: &[Service]) -> Cluster {
    let mut cluster = cluster();
    for service in services {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.1.7")]);
    }
    cluster.compile();
    cluster
}

/// What the restricted fronts of some of the Services are open to.
fn wanted(services: &[Service]) -> BTreeMap<Front, BTreeSet<IpNet>> {
    let mut wanted = BTreeMap::new();
    for service in services {
        let ranges = &service.spec.load_balancer_source_ranges;
        let nets: BTreeSet<IpNet> = ranges.iter().map(|net| net.parse().unwrap()).collect();
        for port in service.spec.ports.iter().filter(|_| !nets.is_empty()) {
            let front = format!("203.0.113.5:{}/TCP", port.port);
            wanted.insert(front.parse().unwrap(), nets.clone());
        }
    }
    wanted
}

fn open_to(model: &Model, front: Front) -> Option<BTreeSet<IpNet>> {
    Some(model.sources(front)?.iter().copied().collect())
}

#[test]
fn services_that_share_an_address_are_never_open_to_each_others_sources() {
    let some = |bits: usize| -> Vec<Service> {
        let all = sharing().into_iter().enumerate();
        all.filter(|(n, _)| bits & (1 << n) != 0)
            .map(|(_, service)| service)
            .collect()
    };
    for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))) {
        let (before, after) = (wanted(&some(from)), wanted(&some(to)));
        let mut cluster = cluster_of(&some(from));
        let mut model = Model::new(cluster.state());
        let goal = {
            let gone = some(from & !to);
            gone.into_iter().for_each(|s| _ = cluster.remove(s));
            for service in some(to & !from) {
                cluster
                    .add(service.clone())
                    .endpoints(&service, [ep("10.244.1.7")]);
            }
            cluster.state()
        };
        // A change leads where a fresh start leads.
        assert_eq!(
            goal.table,
            cluster_of(&some(to)).state().table,
            "{from} {to}"
        );
        for op in &plan(model.state(), &goal).ops {
            model.step(op).unwrap();
            for (front, nets) in before.iter().chain(&after) {
                let stays = before.contains_key(front) && after.contains_key(front);
                let open = open_to(&model, *front);
                let key = VirtualServerKey::Front(*front);
                let served = model.state().virtual_servers.contains_key(&key);
                match open {
                    Some(open) if stays => assert_eq!(open, *nets, "{from} {to}: {front}"),
                    Some(open) => assert!(open.is_subset(nets), "{from} {to}: {front}"),
                    None => assert!(!served && !stays, "{from} {to}: {front} is open to all"),
                }
            }
        }
        assert_eq!(model.state(), &goal);
    }
}

#[test]
fn what_others_restrict_at_an_address_counts_against_nobody_who_has_few() {
    let [one, two, _] = sharing();
    let heavy = two.with(|s| {
        let networks = (0..4000).map(|n| format!("10.{}.{}.0/24", n / 128, n % 128 * 2));
        s.spec.load_balancer_source_ranges = networks.collect();
    });
    let mut cluster = cluster_of(&[one.clone(), heavy.clone()]);
    let model = Model::new(cluster.state());

    for (front, nets) in wanted(&[one]) {
        assert_eq!(open_to(&model, front), Some(nets));
    }
    // Two runs of 4,000: its own fronts are closed, and it is told.
    for front in wanted(core::slice::from_ref(&heavy)).into_keys() {
        assert_eq!(open_to(&model, front), Some(BTreeSet::new()));
    }
    let told = cluster.warnings();
    assert!(
        told.iter()
            .all(|w| w.object.to_string() == "Service default/two")
    );
    assert_eq!(told.len(), 1);
}

fn with_ports(ports: usize, endpoints: usize) -> (Cluster, Service) {
    let service = (0..ports).fold(bare("web", &["10.96.0.1"]), |s, n| {
        s.port(&format!("p{n}"), "TCP", 1 + n as i64)
    });
    let mut slice = slice(&service, []);
    slice.endpoints = (0..endpoints)
        .map(|n| ep(&format!("10.{}.{}.1", 100 + n / 256, n % 256)))
        .collect();
    slice
        .ports
        .iter_mut()
        .for_each(|port| port.port = Some(8080));
    let mut cluster = cluster();
    cluster.add(service.clone()).add(slice);
    (cluster, service)
}

/// Virtual servers, the fewest and the most real servers of one, and of all.
fn servers(cluster: &mut Cluster) -> [usize; 4] {
    let state = cluster.state();
    let each = || state.virtual_servers.values().map(|s| s.real_servers.len());
    [
        each().count(),
        each().min().unwrap_or(0),
        each().max().unwrap_or(0),
        each().sum(),
    ]
}

#[test]
fn ports_share_the_real_servers_of_a_service() {
    let (mut whole, _) = with_ports(2000, 32);
    assert_eq!(servers(&mut whole), [2000, 32, 32, 64_000]);
    assert!(whole.warnings().is_empty());

    let (mut cluster, _) = with_ports(10_000, 30);

    assert_eq!(servers(&mut cluster), [10_000, 6, 6, 60_000]);
    let warnings = cluster.warnings();
    assert_eq!(warnings.len(), 20);
    assert_eq!(
        warnings[1].message,
        "port \"p0\": of 30 endpoints each node serves 6, the port's share of 65536 real servers \
         of a Service"
    );
    let (mut again, _) = with_ports(10_000, 30);
    assert_eq!(again.state(), cluster.state());
}

#[test]
fn many_endpoints_of_one_port_are_all_served() {
    let (mut cluster, service) = with_ports(1, 10_000);
    assert_eq!(servers(&mut cluster), [1, 10_000, 10_000, 10_000]);
    // The table of this scheduler has no more places.
    cluster.add(service.annotation("ipvs.kube-ipvs.dev/scheduler", "mh"));
    assert_eq!(servers(&mut cluster), [1, 4093, 4093, 4093]);
    assert_eq!(cluster.warnings().len(), 1);
}

#[test]
fn what_drains_goes_before_nobody_who_takes_connections() {
    let (mut cluster, service) = with_ports(10_000, 30);
    let mut leaving = slice(&service, []).named("leaving");
    leaving.endpoints = (0..30)
        .map(|n| ep(&format!("10.99.0.{n}")).terminating())
        .collect();
    leaving
        .ports
        .iter_mut()
        .for_each(|port| port.port = Some(8080));
    cluster.add(leaving);
    let state = cluster.state();
    let mut all = state
        .virtual_servers
        .values()
        .flat_map(|s| s.real_servers.values());
    assert!(all.all(|real| real.weight == 1));
}

#[test]
fn ports_times_addresses_are_bounded() {
    let addresses =
        (0..5000).map(|n| format!("198.{}.{}.{}", 20 + n / 62_500, n / 250 % 250, n % 250));
    let mut cluster = cluster_with(crate::Options {
        allow_external_ips: vec!["198.0.0.0/8".parse().unwrap()],
        ..options()
    });
    let service = (0..100).fold(bare("web", &["10.96.0.1"]), |s, n| {
        s.port(&format!("p{n}"), "TCP", 1 + n)
    });
    let service = service.with(|s| s.spec.external_ips = addresses.collect());
    cluster
        .add(service.clone())
        .endpoints(&service, [ep("10.244.1.7")]);

    let [fronts, ..] = servers(&mut cluster);

    assert_eq!(fronts, 16_384);
    let told: Vec<String> = cluster.warnings().into_iter().map(|w| w.message).collect();
    let external = "externalIPs: of 5000 addresses those beyond the first 1024 are ignored";
    assert!(told.contains(&external.to_owned()), "{told:?}");
    assert!(
        told.iter()
            .any(|m| m.starts_with("spec.ports: the first 16384 pairs")),
        "{told:?}"
    );
}

/// A manifest may name any number of them; an API server takes one a family.
#[test]
fn of_cluster_ips_two_are_read_and_the_rest_of_the_service_is_served() {
    let addresses = (1..=5000).map(|n| format!("10.96.{}.{}", n / 250, n % 250));
    let many = web().load_balancer("203.0.113.5").with(|s| {
        s.spec.cluster_ips = addresses.collect();
    });
    let mut cluster = cluster_of(&[many]);

    let [fronts, ..] = servers(&mut cluster);

    let told: Vec<String> = cluster.warnings().into_iter().map(|w| w.message).collect();
    assert_eq!(
        told,
        ["clusterIPs: of 5000 addresses those beyond the first 2 are ignored"]
    );
    assert_eq!(fronts, 3, "{}", cluster.text());
    // One that is not read is nobody's.
    let other = service("other", "10.96.0.3");
    cluster
        .add(other.clone())
        .endpoints(&other, [ep("10.244.1.8")]);
    assert!(cluster.text().contains("vip  10.96.0.3"));
}

#[test]
fn ports_that_could_have_no_front_are_not_read() {
    let port = |n: i64| ServicePort {
        name: format!("p{n}"),
        port: 1 + n,
        ..ServicePort::default()
    };
    let many = |ports| web().with(|s| s.spec.ports = (0..ports).map(port).collect());
    let told = |ports| {
        let all = warnings(many(ports)).into_iter().map(|w| w.message);
        all.filter(|message| message.starts_with("spec.ports"))
            .collect::<Vec<_>>()
    };

    assert_eq!(told(16_384), Vec::<String>::new());
    assert_eq!(
        told(16_385),
        ["spec.ports: of 16385 ports those beyond the first 16384 are ignored"]
    );
    let mut cluster = cluster_of(&[many(16_385)]);
    let [fronts, ..] = servers(&mut cluster);
    assert_eq!(fronts, 16_384);
}

#[test]
fn one_endpoint_a_thousand_times_is_one() {
    let mut cluster = cluster_of(&[web()]);
    for n in 0..100 {
        let mut same = slice(&web(), []).named(&format!("web-{n}"));
        same.endpoints = vec![ep("10.244.1.7"); 10];
        cluster.add(same);
    }
    assert_eq!(servers(&mut cluster), [1, 1, 1, 1]);
}

#[test]
fn one_by_one_the_same_is_compiled_as_together() {
    let changed = || {
        let mut cluster = cluster_of(&sharing()[..1]);
        let mut cidr = ServiceCidr::default();
        cidr.spec.cidrs.push("10.96.0.0/16".to_owned());
        cluster.add(Object::from(cidr));
        for service in &sharing()[1..] {
            cluster
                .add(service.clone())
                .endpoints(service, [ep("10.244.1.7")]);
        }
        cluster
    };
    let (mut together, mut each) = (changed(), changed());

    let touched = together.compile();
    let mut all = crate::Touched::default();
    each.compile_each()
        .into_iter()
        .for_each(|one| all.extend(one));

    assert_eq!(each.desired(), together.desired());
    assert_eq!(all, touched);
    assert!(!each.is_dirty());
}

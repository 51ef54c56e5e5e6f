//! What stays in the kernel while a list could not be read whole.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;

use crate::diff::{Terms, diff};
use crate::event::{Kind, ObjectRef};
use crate::fixtures::*;
use crate::k8s::{Service, ServiceCidr};
use crate::model::Model;
use crate::names::ServiceName;
use crate::options::Options;
use crate::row::Verdict;
use crate::state::{KernelState, VirtualServerKey};
use crate::unknown::Unknown;
use crate::{Cluster, Event, Plan};

type Recorded = BTreeMap<VirtualServerKey, ServiceName>;

/// What the kernel and the record hold after a full life of a cluster.
fn before(cluster: &mut Cluster) -> (KernelState, Recorded) {
    let state = cluster.state();
    let owned = state.virtual_servers.keys().map(|key| {
        let port = cluster.service_of(key).expect("a Service");
        (*key, port.service.clone())
    });
    (state.clone(), owned.collect())
}

/// The plan of a cluster that began anew beside that.
fn plan_of(cluster: &mut Cluster, (observed, recorded): &(KernelState, Recorded)) -> Plan {
    cluster.compile();
    let wanted = |key: &VirtualServerKey| Some(cluster.service_of(key)?.service.clone());
    let kept = cluster.unknown().keep(
        cluster.desired(),
        observed,
        |key| recorded.get(key).cloned(),
        wanted,
    );
    let terms = Terms {
        owned: crate::Owned::These(recorded.keys().copied().collect()),
        ..Terms::default()
    };
    let plan = diff(&kept, observed, &terms);
    Model::new(observed.clone())
        .apply(&plan)
        .expect("no kernel refuses it, and no step is unsafe");
    plan
}

fn reference(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

/// A cluster whose lists named this, and could not be read whole.
fn incomplete(fill: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = cluster();
    for kind in [Kind::Service, Kind::EndpointSlice] {
        cluster.apply(Event::ListStarted(kind));
    }
    fill(&mut cluster);
    for kind in [Kind::Service, Kind::EndpointSlice] {
        cluster.apply(Event::ListIncomplete(kind));
    }
    cluster
}

fn api() -> Service {
    service("api", "10.96.0.2")
}

fn local() -> Service {
    web().load_balancer("198.51.100.5").with(|s| {
        s.spec.external_traffic_policy = Some("Local".to_owned());
        s.spec.load_balancer_source_ranges = vec!["192.0.2.0/24".to_owned()];
    })
}

#[test]
fn nothing_is_removed_after_an_incomplete_list_and_what_was_read_is_served() {
    let mut whole = cluster();
    whole.add(local()).endpoints(&web(), [ep("10.244.1.7")]);
    let observed = before(&mut whole);

    let mut cluster = incomplete(|cluster| {
        cluster.add(api()).endpoints(&api(), [ep("10.244.1.9")]);
    });

    assert!(cluster.synced(), "what was read can be served");
    assert_lines(
        &plan_of(&mut cluster, &observed).to_string(),
        "guard  add  10.96.0.2
         virtual server  add  10.96.0.2:80/TCP rr
         real server  add  10.96.0.2:80/TCP -> 10.244.1.9:8080 weight 1
         front  add  10.96.0.2:80/TCP serve
         vip  bind  10.96.0.2",
    );
}

#[test]
fn a_service_without_its_unreadable_slices_keeps_its_real_servers() {
    for service in [web(), local(), web().node_port(30080)] {
        let mut whole = cluster();
        whole
            .add(service.clone())
            .endpoints(&service, [ep("10.244.1.7").here(), ep("10.244.2.7")]);
        let observed = before(&mut whole);

        let mut none = incomplete(|cluster| _ = cluster.add(service.clone()));
        assert_eq!(plan_of(&mut none, &observed).to_string(), "");
        let mut one = incomplete(|cluster| {
            cluster
                .add(service.clone())
                .endpoints(&service, [ep("10.244.1.7").here()]);
        });
        assert_eq!(plan_of(&mut one, &observed).to_string(), "");
    }
}

#[test]
fn what_is_untracked_stays_while_nobody_knows_whose_it_is() {
    let options = Options {
        untracked_by_annotation: true,
        ..options()
    };
    let dns = web().annotation("ipvs.kube-ipvs.dev/untracked", "true");
    let mut whole = cluster_with(options);
    whole.add(dns.clone()).endpoints(&dns, [ep("10.244.2.7")]);
    let observed = before(&mut whole);
    assert_eq!(observed.0.table.untracked.len(), 3);

    let mut none = incomplete(|_| {});
    assert_eq!(plan_of(&mut none, &observed).to_string(), "");
}

#[test]
fn a_service_that_was_read_is_closed_as_it_says() {
    let mut whole = cluster();
    whole
        .add(local())
        .endpoints(&web(), [ep("10.244.1.7").here()]);
    let observed = before(&mut whole);

    let narrower = local().with(|s| {
        s.spec.load_balancer_source_ranges = vec!["192.0.2.1/32".to_owned()];
    });
    let mut cluster = incomplete(|cluster| {
        cluster
            .add(narrower)
            .endpoints(&web(), [ep("10.244.1.7").here()]);
    });
    let plan = plan_of(&mut cluster, &observed).to_string();
    assert!(
        plan.contains("only 192.0.2.1/32") && !plan.contains("192.0.2.0/24"),
        "the wider one goes: {plan}"
    );
}

#[test]
fn a_front_of_an_unreadable_service_does_not_change_hands() {
    let mut whole = cluster();
    whole.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let observed = before(&mut whole);

    let thief = service("thief", "10.96.0.1");
    let mut cluster = incomplete(|cluster| {
        cluster
            .add(thief.clone())
            .endpoints(&thief, [ep("10.244.6.6")]);
    });
    assert_eq!(plan_of(&mut cluster, &observed).to_string(), "");
}

#[test]
fn a_whole_list_removes_what_is_gone() {
    let mut whole = cluster();
    whole.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let observed = before(&mut whole);
    let mut cluster = incomplete(|_| {});
    assert_eq!(*cluster.unknown(), Unknown::Everything);

    cluster.complete();

    assert!(cluster.unknown().is_nothing());
    let plan = plan_of(&mut cluster, &observed).to_string();
    assert!(
        plan.contains("virtual server  remove  10.96.0.1:80/TCP"),
        "{plan}"
    );
    cluster.apply(Event::ListStarted(Kind::Service));
    cluster.apply(Event::ListIncomplete(Kind::Service));
    assert!(cluster.unknown().is_nothing(), "what was whole is known");
}

#[test]
fn an_unreadable_object_keeps_its_own_and_nobody_elses() {
    let mut whole = cluster();
    whole.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    whole.add(api()).endpoints(&api(), [ep("10.244.1.9")]);
    let observed = before(&mut whole);

    let mut cluster = cluster();
    cluster.apply(Event::ListStarted(Kind::Service));
    cluster.apply(Event::Unreadable(reference(Kind::Service, "web").into()));
    cluster.apply(Event::ListCompleted(Kind::Service));
    cluster.apply(Event::ListStarted(Kind::EndpointSlice));
    cluster.apply(Event::ListCompleted(Kind::EndpointSlice));

    assert!(cluster.synced());
    let plan = plan_of(&mut cluster, &observed).to_string();
    assert!(!plan.contains("10.96.0.1"), "{plan}");
    assert!(
        plan.contains("virtual server  remove  10.96.0.2:80/TCP"),
        "{plan}"
    );

    cluster.apply(Event::Delete(reference(Kind::Service, "web")));
    assert!(cluster.unknown().is_nothing(), "it is gone");
}

#[test]
fn an_unreadable_slice_keeps_the_real_servers_of_its_namespace() {
    let mut whole = cluster();
    whole.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    let observed = before(&mut whole);

    let mut cluster = cluster();
    cluster.add(web());
    cluster.complete();
    cluster.add(web());
    cluster.apply(Event::Unreadable(
        reference(Kind::EndpointSlice, "web-1").into(),
    ));
    assert_eq!(plan_of(&mut cluster, &observed).to_string(), "");

    cluster.endpoints(&web(), [ep("10.244.1.8")]);
    assert!(cluster.unknown().is_nothing(), "it was read since");
    let plan = plan_of(&mut cluster, &observed).to_string();
    assert!(
        plan.contains("remove  10.96.0.1:80/TCP -> 10.244.1.7:8080"),
        "{plan}"
    );
}

#[test]
fn what_was_readable_once_is_known() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    cluster.complete();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    cluster.apply(Event::Unreadable(reference(Kind::Service, "web").into()));
    cluster.apply(Event::Unreadable(
        reference(Kind::EndpointSlice, "web-1").into(),
    ));
    assert!(cluster.unknown().is_nothing());
}

#[test]
fn refusals_and_marks_of_what_is_unknown_stay() {
    let mut whole = cluster();
    whole.add(web());
    whole
        .add(local().with(|s| s.metadata.name = "far".to_owned()))
        .add(api());
    let observed = before(&mut whole);
    let mut rows = observed.0.table.rows.values();
    assert!(rows.any(|row| row.verdict == Verdict::Refuse));

    let mut cluster = incomplete(|_| {});
    assert_eq!(plan_of(&mut cluster, &observed).to_string(), "");
}

#[test]
fn networks_of_service_cidrs_stay_and_never_overlap() {
    let cidr = |networks: &[&str]| {
        let mut cidr = ServiceCidr::default();
        cidr.metadata.name = "kubernetes".to_owned();
        cidr.spec.cidrs = networks.iter().map(|net| (*net).to_owned()).collect();
        cidr
    };
    let mut whole = cluster();
    whole.add(cidr(&["10.96.0.0/16"]));
    let observed = before(&mut whole);
    assert_eq!(observed.0.table.networks.len(), 1);

    let mut none = incomplete(|_| {});
    assert_eq!(plan_of(&mut none, &observed).to_string(), "");
    let mut wider = incomplete(|cluster| _ = cluster.add(cidr(&["10.96.0.0/12", "fd00:96::/112"])));
    assert_lines(
        &plan_of(&mut wider, &observed),
        "network  add  fd00:96::/112",
    );
}

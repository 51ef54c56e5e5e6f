//! Addresses of Services that are gone stay for a while.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::Cluster;
use crate::event::Event;
use crate::fixtures::*;
use crate::k8s::{Service, ServiceCidr};
use crate::options::Options;

const INSIDE: &str = "10.96.0.1";
const OUTSIDE: &str = "203.0.113.5";

/// With `web` at an address inside and one outside, at 1,000 ms.
fn serving() -> (Cluster, Service) {
    let mut cluster = cluster_with(Options {
        farewell: true,
        ..options()
    });
    let mut cidr = ServiceCidr::default();
    cidr.metadata.name = "kubernetes".into();
    cidr.spec.cidrs = vec!["10.96.0.0/16".into()];
    cluster.add(cidr);
    let web = web().load_balancer(OUTSIDE);
    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    cluster.tick(1_000);
    assert_eq!(bound(&mut cluster), [INSIDE, OUTSIDE]);
    (cluster, web)
}

/// What is bound, all of it guarded.
fn bound(cluster: &mut Cluster) -> Vec<String> {
    let state = cluster.state();
    assert_eq!(state.vips, state.table.guarded);
    state.vips.iter().map(ToString::to_string).collect()
}

#[test]
fn an_address_stays_guarded_for_a_while_with_nothing_behind_it() {
    let (mut cluster, web) = serving();

    cluster.remove(web);

    assert_eq!(bound(&mut cluster), [INSIDE, OUTSIDE]);
    let state = cluster.state();
    assert!(state.virtual_servers.is_empty() && state.table.rows.is_empty());
    assert_eq!(cluster.step_due(), Some(11_000));
    for (now, left, due) in [
        (10_999, &[INSIDE, OUTSIDE][..], Some(11_000)),
        (11_000, &[INSIDE], Some(301_000)),
        (300_999, &[INSIDE], Some(301_000)),
        (301_000, &[], None),
    ] {
        cluster.tick(now);
        let touched = cluster.compile();
        assert_eq!(bound(&mut cluster), left, "{now}");
        assert_eq!(cluster.step_due(), due, "{now}");
        assert_eq!(touched.vips, touched.guarded, "{now}");
    }
}

#[test]
fn what_is_wanted_again_does_not_go() {
    let (mut cluster, web) = serving();
    cluster.remove(web.clone());
    cluster.compile();

    cluster.add(web.clone()).endpoints(&web, [ep("10.244.1.7")]);
    cluster.compile();
    cluster.tick(1_000_000);

    assert_eq!(bound(&mut cluster), [INSIDE, OUTSIDE]);
    assert_eq!(cluster.step_due(), None);
}

#[test]
fn what_is_known_to_be_somebody_elses_goes_at_once() {
    for whose in [
        Event::Protected([OUTSIDE.parse().unwrap()].into()),
        Event::Unchecked([OUTSIDE.parse().unwrap()].into()),
        Event::Gateways([OUTSIDE.parse().unwrap()].into()),
    ] {
        let (mut cluster, web) = serving();
        cluster.remove(web.clone());
        cluster.compile();

        cluster.apply(whose.clone());
        let touched = cluster.compile();

        assert_eq!(bound(&mut cluster), [INSIDE], "{whose:?}");
        assert_eq!(touched.vips.len(), 1);
        // While its Service is there it is not bound in the first place.
        let (mut cluster, _) = serving();
        cluster.apply(whose.clone());
        assert_eq!(bound(&mut cluster), [INSIDE], "{whose:?}");
    }
    let (mut cluster, web) = serving();
    cluster.remove(web);
    cluster.compile();
    cluster.host(&["192.0.2.1", INSIDE]);
    assert_eq!(bound(&mut cluster), [OUTSIDE]);
}

#[test]
fn so_many_stay_and_no_more() {
    let (mut cluster, web) = serving();
    cluster.remove(web);
    cluster.compile();
    cluster.tick(2_000);
    let all: Vec<Service> = (0..1_100)
        .map(|n| {
            service(
                &format!("s{n}"),
                &format!("10.96.{}.{}", 1 + n / 250, n % 250),
            )
        })
        .collect();
    for service in &all {
        cluster.add(service.clone());
    }
    cluster.compile();

    for service in all {
        cluster.remove(service);
    }
    cluster.compile();

    let left = bound(&mut cluster);
    assert_eq!(left.len(), 1_024);
    // The next to go, and then the oldest.
    assert!(!left.contains(&OUTSIDE.to_owned()) && !left.contains(&INSIDE.to_owned()));
}

#[test]
fn without_the_option_it_goes_at_once() {
    let mut cluster = cluster();
    cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
    cluster.compile();

    cluster.remove(web());

    assert_eq!(bound(&mut cluster), [""; 0]);
}

//! Binding and unbinding, in both modes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use kube_ipvs_tests::Namespace;
use kube_ipvs_vip::{Binder, Binding, Error, ROUTE_PROTOCOL};

use super::{
    LINK, NODE, NODE6, addresses, bind, binder, ip, ip_json, ip_run, ips, node_addresses,
    route_binding, unbind,
};

/// Destination and source of our routes, as `ip` sees them.
fn routes(family: &str) -> Vec<(String, String)> {
    let arguments =
        format!("{family} route show table local type local dev {LINK} proto {ROUTE_PROTOCOL}");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    ip_json(&arguments)
        .iter()
        .map(|route| (text(&route["dst"]), text(&route["prefsrc"])))
        .collect()
}

/// The source that this host would use towards an address.
fn source_towards(vip: &str) -> String {
    let route = ip_json(&format!("route get {vip}"));
    route[0]["prefsrc"].as_str().expect("a source").to_owned()
}

#[test]
fn address_mode_binds_whole_addresses_of_both_families() {
    let _namespace = Namespace::enter();
    let mut binder = binder(Binding::Address);
    let vips = ips(&["10.96.0.1", "10.96.0.10", "fd00:96::a"]);

    bind(&mut binder, &vips);

    let seen = addresses();
    let locals: BTreeSet<_> = seen
        .iter()
        .filter_map(|a| a["local"].as_str())
        .map(ip)
        .collect();
    assert_eq!(locals, vips);
    for address in &seen {
        let length = if address["family"] == "inet" { 32 } else { 128 };
        assert_eq!(address["prefixlen"], length, "{address}");
        assert_eq!(address["scope"], "global", "{address}");
        // An address under duplicate address detection answers nobody.
        assert_ne!(address["tentative"], true, "{address}");
    }
    assert_eq!(binder.bound().expect("an answer"), vips);
}

#[test]
fn binding_twice_and_unbinding_what_is_not_there_are_fine() {
    let _namespace = Namespace::enter();
    node_addresses();
    for mode in [Binding::Address, route_binding()] {
        let mut binder = binder(mode);
        let (stay, go) = (
            ips(&["10.96.0.1", "fd00:96::1"]),
            ips(&["10.96.0.2", "fd00:96::2"]),
        );
        let both = &stay | &go;

        bind(&mut binder, &both);
        bind(&mut binder, &both);
        assert_eq!(binder.bound().expect("an answer"), both, "{mode:?}");
        unbind(&mut binder, &go);
        unbind(&mut binder, &go);
        assert_eq!(binder.bound().expect("an answer"), stay, "{mode:?}");
    }
}

#[test]
fn route_mode_makes_local_routes_with_the_nodes_address_as_source() {
    let _namespace = Namespace::enter();
    node_addresses();
    let mut binder = binder(route_binding());

    bind(&mut binder, &ips(&["10.96.0.10", "fd00:96::a"]));

    assert_eq!(routes("-4"), [("10.96.0.10".to_owned(), NODE.to_owned())]);
    assert_eq!(routes("-6"), [("fd00:96::a".to_owned(), NODE6.to_owned())]);
    assert!(addresses().is_empty(), "{:?}", addresses());
    assert_eq!(source_towards("10.96.0.10"), NODE);
    assert_eq!(source_towards("fd00:96::a"), NODE6);
}

#[test]
fn a_new_source_reaches_the_routes_that_exist() {
    let _namespace = Namespace::enter();
    node_addresses();
    ip_run("address add 192.0.2.2/24 dev eth0");
    ip_run("address add 2001:db8::2/64 dev eth0 nodad");
    bind(
        &mut binder(route_binding()),
        &ips(&["10.96.0.10", "fd00:96::a"]),
    );

    let binder = &mut binder(Binding::Route {
        source_v4: Some("192.0.2.2".parse().expect("an address")),
        source_v6: Some("2001:db8::2".parse().expect("an address")),
    });

    assert_eq!(
        routes("-4"),
        [("10.96.0.10".to_owned(), "192.0.2.2".to_owned())]
    );
    assert_eq!(
        routes("-6"),
        [("fd00:96::a".to_owned(), "2001:db8::2".to_owned())]
    );
    assert_eq!(binder.bound().expect("an answer").len(), 2);
}

#[test]
fn each_refusal_comes_with_its_address_and_the_rest_is_done() {
    let _namespace = Namespace::enter();
    let mut binder = binder(Binding::Route {
        source_v4: Some(Ipv4Addr::new(203, 0, 113, 9)),
        source_v6: None,
    });

    let refused = binder
        .bind(&[ip("10.96.0.10"), ip("fd00:96::a")])
        .expect("an answer");

    let refused: Vec<_> = refused
        .iter()
        .map(|(vip, e)| (*vip, e.to_string()))
        .collect();
    let reason = "bind 10.96.0.10/32 on kube-ipvs0: Invalid argument (EINVAL): \
                  Invalid prefsrc address; is the source hint an address of this host?";
    assert_eq!(refused, [(ip("10.96.0.10"), reason.to_owned())]);
    assert_eq!(binder.bound().expect("an answer"), ips(&["fd00:96::a"]));
}

#[test]
fn what_the_other_mode_left_is_seen_and_removed_without_harm() {
    let _namespace = Namespace::enter();
    node_addresses();
    let vips = ips(&["10.96.0.10", "fd00:96::a"]);
    let list: Vec<_> = vips.iter().copied().collect();
    bind(&mut binder(Binding::Address), &vips);
    let mut binder = binder(route_binding());

    assert!(binder.bound().expect("an answer").is_empty());
    bind(&mut binder, &vips);
    assert_eq!(binder.bound_in(Binding::Address).expect("an answer"), vips);
    super::assert_none_refused(binder.unbind_in(Binding::Address, &list));

    assert!(addresses().is_empty(), "{:?}", addresses());
    assert_eq!(binder.bound().expect("an answer"), vips);
    assert_eq!(source_towards("10.96.0.10"), NODE);

    // And back again.
    binder.set_binding(Binding::Address);
    bind(&mut binder, &vips);
    super::assert_none_refused(binder.unbind_in(route_binding(), &list));
    assert_eq!(binder.bound().expect("an answer"), vips);
    assert!(routes("-4").is_empty() && routes("-6").is_empty());
}

#[test]
fn what_others_put_on_our_link_is_no_vip() {
    let _namespace = Namespace::enter();
    let mut binder = binder(Binding::Address);
    ip_run(&format!("address add 10.1.0.1/24 dev {LINK}"));
    ip_run(&format!("route add local 10.2.0.1/32 dev {LINK}"));
    ip_run(&format!("route add local 10.3.0.0/16 dev {LINK}"));

    assert!(binder.bound().expect("an answer").is_empty());
    assert!(
        binder
            .bound_in(route_binding())
            .expect("an answer")
            .is_empty()
    );
    let vips = [ip("10.1.0.1"), ip("10.2.0.1")];
    super::assert_none_refused(binder.unbind(&vips));
    super::assert_none_refused(binder.unbind_in(route_binding(), &vips));

    assert_eq!(addresses().len(), 1);
    let routes = ip_json(&format!(
        "route show table local type local dev {LINK} proto boot"
    ));
    assert_eq!(routes.len(), 2);
}

fn ten_thousand() -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::new(10, 96, 0, 1));
    (0..10_000)
        .map(|n| Ipv4Addr::from(first + n).into())
        .collect()
}

fn ten_thousand_cost_few_sends(mut binder: Binder) {
    let vips = ten_thousand();
    let before = binder.sends();

    super::assert_none_refused(binder.bind(&vips));
    let sends = binder.sends() - before;

    assert!(sends <= 25, "{sends} sends for 10,000 VIPs");
    assert_eq!(
        binder.bound().expect("an answer"),
        vips.iter().copied().collect()
    );
    // All refused, since they are there: the answers must fit the buffer.
    super::assert_none_refused(binder.bind(&vips));
}

#[test]
fn ten_thousand_routes_cost_few_sends() {
    let _namespace = Namespace::enter();
    node_addresses();
    let mut binder = binder(route_binding());
    binder.ensure_link().expect("a link");
    ten_thousand_cost_few_sends(binder);
}

#[test]
fn ten_thousand_addresses_cost_few_sends() {
    let _namespace = Namespace::enter();
    ten_thousand_cost_few_sends(binder(Binding::Address));
}

#[test]
fn a_list_is_whole_or_an_error_while_others_change_the_table() {
    let namespace = Namespace::enter();
    let mut binder = binder(Binding::Address);
    let stable: BTreeSet<_> = ten_thousand().into_iter().take(1_500).collect();
    bind(&mut binder, &stable);
    let stop = AtomicBool::new(false);

    let churn = || {
        namespace.run(|| {
            let mut other = Binder::new(LINK, Binding::Address).expect("a socket");
            while !stop.load(Ordering::Relaxed) {
                super::assert_none_refused(other.bind(&[ip("10.200.0.1")]));
                super::assert_none_refused(other.unbind(&[ip("10.200.0.1")]));
            }
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(churn);
        for _ in 0..30 {
            match binder.bound() {
                Ok(bound) => assert_eq!(stable.difference(&bound).count(), 0, "a partial answer"),
                Err(Error::Interrupted { tries, .. }) => assert!(tries > 1),
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });

    assert_eq!(binder.bound().expect("an answer"), stable);
}

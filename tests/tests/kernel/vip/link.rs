//! The dummy link, and what else is on the host.

use kube_ipvs_tests::Namespace;
use kube_ipvs_vip::{Binder, Binding, Ensured, Error};

use super::{LINK, NODE, NODE6, addresses, bind, binder, ip_json, ip_run, ips, node_addresses};

#[test]
fn the_link_is_dummy_up_noarp_and_without_an_address() {
    let _namespace = Namespace::enter();
    let mut binder = Binder::new(LINK, Binding::Address).expect("a socket");

    assert_eq!(binder.ensure_link().expect("a link"), Ensured::Created);

    let link = &ip_json(&format!("-d link show {LINK}"))[0];
    assert_eq!(link["linkinfo"]["info_kind"], "dummy");
    assert_eq!(link["inet6_addr_gen_mode"], "none");
    let flags = link["flags"].as_array().expect("flags");
    for flag in ["UP", "NOARP"] {
        assert!(
            flags.iter().any(|found| found == flag),
            "{flag} in {flags:?}"
        );
    }
    assert!(addresses().is_empty(), "{:?}", addresses());
}

#[test]
fn a_link_that_is_right_is_not_touched_and_one_that_is_down_comes_up() {
    let _namespace = Namespace::enter();
    let mut binder = binder(Binding::Address);

    assert_eq!(binder.ensure_link().expect("a link"), Ensured::Unchanged);
    ip_run(&format!("link set {LINK} down"));
    ip_run(&format!("link set {LINK} addrgenmode eui64"));
    assert_eq!(binder.ensure_link().expect("a link"), Ensured::Changed);

    assert!(addresses().is_empty(), "{:?}", addresses());
    assert_eq!(binder.ensure_link().expect("a link"), Ensured::Unchanged);
}

#[test]
fn a_link_of_our_name_that_is_not_dummy_is_left_alone() {
    let _namespace = Namespace::enter();
    ip_run(&format!("link add {LINK} type veth peer name other"));
    let mut binder = Binder::new(LINK, Binding::Address).expect("a socket");

    for refused in [
        binder.ensure_link().map(drop),
        binder.remove_link().map(drop),
    ] {
        let error = refused.expect_err("a foreign link");
        assert!(
            matches!(&error, Error::NotDummy { kind, .. } if kind == "veth"),
            "{error}"
        );
    }
    let link = &ip_json(&format!("link show {LINK}"))[0];
    assert!(!link["flags"].to_string().contains("\"UP\""), "{link}");
}

#[test]
fn removing_the_link_takes_all_with_it() {
    let _namespace = Namespace::enter();
    let mut binder = binder(Binding::Address);
    bind(&mut binder, &ips(&["10.96.0.10", "fd00:96::a"]));

    assert!(binder.remove_link().expect("removed"));
    assert!(!binder.remove_link().expect("nothing to remove"));

    assert!(binder.bound().expect("an answer").is_empty());
    let error = binder
        .bind(&[super::ip("10.96.0.10")])
        .expect_err("no link");
    assert_eq!(
        error.to_string(),
        "bind 1 VIPs to kube-ipvs0: no link kube-ipvs0 (ENODEV); it is made by ensure_link"
    );
    assert!(
        binder
            .unbind(&[super::ip("10.96.0.10")])
            .expect("done")
            .is_empty()
    );
}

#[test]
fn host_addresses_are_those_of_ip_but_for_our_link() {
    let _namespace = Namespace::enter();
    node_addresses();
    let mut binder = binder(Binding::Address);
    bind(&mut binder, &ips(&["10.96.0.10", "fd00:96::a"]));

    let ours: Vec<_> = binder.host_addresses().expect("addresses");

    let mut theirs = Vec::new();
    for link in ip_json("address show") {
        let name = link["ifname"].as_str().expect("a name").to_owned();
        for address in link["addr_info"].as_array().expect("addresses") {
            let local = super::ip(address["local"].as_str().expect("an address"));
            let prefix = address["prefixlen"].as_u64().expect("a length");
            theirs.push((name.clone(), local, prefix));
        }
    }
    theirs.retain(|(name, ..)| name != LINK);
    theirs.sort();
    let mut found: Vec<_> = ours
        .iter()
        .map(|host| (host.link.clone(), host.address, u64::from(host.prefix)))
        .collect();
    found.sort();
    assert_eq!(found, theirs);
    let global: Vec<_> = ours.iter().filter(|host| host.is_global()).collect();
    let global: Vec<_> = global.iter().map(|host| host.address.to_string()).collect();
    assert_eq!(global, [NODE, NODE6]);
}

#[test]
fn gateways_are_the_next_hops_of_all_default_routes() {
    let _namespace = Namespace::enter();
    node_addresses();
    ip_run("route add 198.51.100.0/24 via 192.0.2.7");
    ip_run("route add default nexthop via 192.0.2.254 dev eth0 nexthop via 192.0.2.253 dev eth0");
    ip_run("-6 route add default via 2001:db8::254");
    let mut binder = Binder::new(LINK, Binding::Address).expect("a socket");

    let gateways = binder.default_gateways().expect("an answer");

    assert_eq!(
        gateways,
        ips(&["192.0.2.253", "192.0.2.254", "2001:db8::254"])
    );
}

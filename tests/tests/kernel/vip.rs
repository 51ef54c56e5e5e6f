//! VIPs on a real kernel: what `Binder` does, `ip -j` must see, and the other
//! way round.

mod bind;
mod link;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_ipvs_tests::run;
use kube_ipvs_vip::{Binder, Binding};
use serde_json::Value;

const LINK: &str = "kube-ipvs0";
const NODE: &str = "192.0.2.1";
const NODE6: &str = "2001:db8::1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

/// `ip` with JSON output. It prints nothing at all when there is nothing.
fn ip_json(arguments: &str) -> Vec<Value> {
    let text = run("ip", ["-j"].into_iter().chain(arguments.split(' ')));
    if text.trim().is_empty() {
        return Vec::new();
    }
    let values: Vec<Value> = serde_json::from_str(&text).expect("JSON of ip");
    // iproute2 leaves empty objects for what it filtered away.
    let filled = |value: &Value| value.as_object().is_some_and(|object| !object.is_empty());
    values.into_iter().filter(filled).collect()
}

fn ip_run(arguments: &str) {
    run("ip", arguments.split(' '));
}

/// The addresses on our link, with all that `ip` says of each.
fn addresses() -> Vec<Value> {
    let link = ip_json(&format!("address show dev {LINK}"));
    link[0]["addr_info"].as_array().expect("addresses").clone()
}

/// A node with a real link that bears the node's addresses.
fn node_addresses() {
    ip_run("link add eth0 type veth peer name uplink");
    ip_run("link set eth0 up");
    ip_run("link set uplink up");
    ip_run(&format!("address add {NODE}/24 dev eth0"));
    ip_run(&format!("address add {NODE6}/64 dev eth0 nodad"));
}

fn route_binding() -> Binding {
    Binding::Route {
        source_v4: Some(NODE.parse().expect("an address")),
        source_v6: Some(NODE6.parse().expect("an address")),
    }
}

/// A binder whose link is there.
fn binder(binding: Binding) -> Binder {
    let mut binder = Binder::new(LINK, binding).expect("a socket");
    binder.ensure_link().expect("a link");
    binder
}

/// Binds all of them, or says which was refused.
fn bind(binder: &mut Binder, vips: &BTreeSet<IpAddr>) {
    let vips: Vec<_> = vips.iter().copied().collect();
    assert_none_refused(binder.bind(&vips));
}

fn unbind(binder: &mut Binder, vips: &BTreeSet<IpAddr>) {
    let vips: Vec<_> = vips.iter().copied().collect();
    assert_none_refused(binder.unbind(&vips));
}

fn assert_none_refused(result: kube_ipvs_vip::Result<Vec<(IpAddr, kube_ipvs_vip::Error)>>) {
    let refused = result.expect("the kernel answers");
    let messages: Vec<_> = refused.iter().map(|(_, error)| error.to_string()).collect();
    assert!(messages.is_empty(), "{messages:#?}");
}

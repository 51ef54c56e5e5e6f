//! The stream of changes.

use std::time::Duration;

use futures::StreamExt;
use kube_ipvs_tests::Namespace;
use kube_ipvs_vip::{Binder, Binding, Notice, ROUTE_PROTOCOL, Watch, watch};

use super::{
    LINK, NODE, addresses, bind, binder, ip, ip_json, ip_run, ips, node_addresses, route_binding,
    unbind,
};

/// Runs a test on a runtime in the present thread, which is the one that is in
/// the namespace.
fn on_this_thread(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(test);
}

/// Waits for one change; others may come before it.
async fn expect(watch: &mut Watch, wanted: Notice) {
    let mut others = Vec::new();
    let seen = async {
        while let Some(change) = watch.next().await {
            if change == wanted {
                return true;
            }
            others.push(change);
        }
        false
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert_eq!(seen, Ok(true), "{wanted:?} did not come, but {others:?}");
}

#[test]
fn addresses_that_come_and_go_are_told() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        let mut watch = watch(LINK, Binding::Address).expect("a watch");

        ip_run("address add 192.0.2.77/24 dev eth0");
        expect(&mut watch, Notice::HostAddress(ip("192.0.2.77"))).await;
        ip_run("address del 192.0.2.77/24 dev eth0");
        expect(&mut watch, Notice::HostAddress(ip("192.0.2.77"))).await;
        ip_run("address add 2001:db8::77/64 dev eth0 nodad");
        expect(&mut watch, Notice::HostAddress(ip("2001:db8::77"))).await;
    });
}

#[test]
fn a_vip_that_somebody_removes_or_adds_is_told() {
    let _namespace = Namespace::enter();
    node_addresses();
    let by_address = ["address", "-6 address"];
    let by_route = ["route", "-6 route"];
    for (mode, commands) in [(Binding::Address, by_address), (route_binding(), by_route)] {
        on_this_thread(async {
            let vips = ips(&["10.96.0.10", "fd00:96::a"]);
            bind(&mut binder(mode), &vips);
            let mut watch = watch(LINK, mode).expect("a watch");

            for (command, vip) in commands.into_iter().zip(&vips) {
                let what = if mode == Binding::Address {
                    format!("{vip} dev {LINK}")
                } else {
                    format!("local {vip} dev {LINK} table local proto {ROUTE_PROTOCOL}")
                };
                ip_run(&format!("{command} del {what}"));
                expect(&mut watch, Notice::VipGone(*vip)).await;
                ip_run(&format!("{command} add {what}"));
                expect(&mut watch, Notice::VipCome(*vip)).await;
            }
            unbind(&mut binder(mode), &vips);
            expect(&mut watch, Notice::VipGone(ip("fd00:96::a"))).await;
        });
    }
}

/// With the last IPv4 address the kernel clears a link of routes without a word.
/// With the address that is their source it does not, in the table of local ones.
#[test]
fn what_takes_routes_along_is_told() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        let mut binder = binder(route_binding());
        let vips = ips(&["10.96.0.10"]);
        bind(&mut binder, &vips);
        let mut watch = watch(LINK, route_binding()).expect("a watch");

        ip_run(&format!("address add 192.0.2.78/32 dev {LINK}"));
        expect(&mut watch, Notice::Stray).await;
        ip_run(&format!("address del 192.0.2.78/32 dev {LINK}"));
        expect(&mut watch, Notice::Stray).await;
        assert!(binder.bound().expect("an answer").is_empty());

        bind(&mut binder, &vips);
        let of_the_node = ip_json(&format!("address show to {NODE}"));
        let prefix = &of_the_node[0]["addr_info"][0]["prefixlen"];
        ip_run(&format!("address del {NODE}/{prefix} dev eth0"));
        expect(&mut watch, Notice::HostAddress(ip(NODE))).await;
        assert_eq!(binder.bound().expect("an answer"), vips);
    });
}

#[test]
fn our_link_is_followed_through_its_lives() {
    let _namespace = Namespace::enter();
    on_this_thread(async {
        let mut watch = watch(LINK, Binding::Address).expect("a watch");

        binder(Binding::Address);
        expect(&mut watch, Notice::Link).await;
        ip_run(&format!("link set {LINK} down"));
        expect(&mut watch, Notice::Link).await;
        ip_run(&format!("link del {LINK}"));
        expect(&mut watch, Notice::Link).await;
        // Made again, with another index.
        bind(&mut binder(Binding::Address), &ips(&["10.96.0.10"]));
        ip_run(&format!("address del 10.96.0.10/32 dev {LINK}"));
        expect(&mut watch, Notice::VipGone(ip("10.96.0.10"))).await;
    });
}

#[test]
fn a_reader_that_is_too_slow_is_told_to_look_again() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        let mut binder: Binder = binder(route_binding());
        let mut watch = watch(LINK, route_binding()).expect("a watch");
        // More notices than the buffer takes.
        let many = (0..20_000u32)
            .map(|n| (0x0a60_0000 + n).to_be_bytes().into())
            .collect();

        bind(&mut binder, &many);
        unbind(&mut binder, &many);

        expect(&mut watch, Notice::Lost).await;
        assert!(addresses().is_empty());
        // And goes on.
        ip_run("address add 192.0.2.77/24 dev eth0");
        expect(&mut watch, Notice::HostAddress(ip("192.0.2.77"))).await;
    });
}

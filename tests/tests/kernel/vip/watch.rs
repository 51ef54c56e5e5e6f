//! The stream of changes.

use std::time::Duration;

use futures::StreamExt;
use kube_ipvs_tests::Namespace;
use kube_ipvs_vip::{Binder, Binding, Notice, Watch, watch};

use super::{
    LINK, addresses, bind, binder, ip, ip_run, ips, node_addresses, route_binding, unbind,
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
        let mut watch = watch(LINK).expect("a watch");

        ip_run("address add 192.0.2.77/24 dev eth0");
        expect(&mut watch, Notice::HostAddress(ip("192.0.2.77"))).await;
        ip_run("address del 192.0.2.77/24 dev eth0");
        expect(&mut watch, Notice::HostAddress(ip("192.0.2.77"))).await;
        ip_run("address add 2001:db8::77/64 dev eth0 nodad");
        expect(&mut watch, Notice::HostAddress(ip("2001:db8::77"))).await;
    });
}

#[test]
fn a_vip_that_somebody_removes_is_told() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        bind(
            &mut binder(Binding::Address),
            &ips(&["10.96.0.10", "fd00:96::a"]),
        );
        bind(
            &mut binder(route_binding()),
            &ips(&["10.96.0.11", "fd00:96::b"]),
        );
        let mut watch = watch(LINK).expect("a watch");

        // Routes first: with its last address the kernel clears a link.
        ip_run(&format!("route del local 10.96.0.11 dev {LINK}"));
        expect(&mut watch, Notice::VipGone(ip("10.96.0.11"))).await;
        ip_run(&format!("-6 route del local fd00:96::b dev {LINK}"));
        expect(&mut watch, Notice::VipGone(ip("fd00:96::b"))).await;
        ip_run(&format!("address del 10.96.0.10/32 dev {LINK}"));
        expect(&mut watch, Notice::VipGone(ip("10.96.0.10"))).await;
        ip_run(&format!("address del fd00:96::a/128 dev {LINK}"));
        expect(&mut watch, Notice::VipGone(ip("fd00:96::a"))).await;
    });
}

#[test]
fn our_link_is_followed_through_its_lives() {
    let _namespace = Namespace::enter();
    on_this_thread(async {
        let mut watch = watch(LINK).expect("a watch");

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
fn binding_by_ourselves_is_no_news() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        let mut binder = binder(Binding::Address);
        let mut watch = watch(LINK).expect("a watch");

        bind(&mut binder, &ips(&["10.96.0.10", "fd00:96::a"]));
        ip_run("address add 192.0.2.77/24 dev eth0");

        // The first news is the address that came after our own.
        let first = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        assert_eq!(first, Ok(Some(Notice::HostAddress(ip("192.0.2.77")))));
    });
}

#[test]
fn a_reader_that_is_too_slow_is_told_to_look_again() {
    let _namespace = Namespace::enter();
    node_addresses();
    on_this_thread(async {
        let mut binder: Binder = binder(route_binding());
        let mut watch = watch(LINK).expect("a watch");
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

//! Whether nftables tables must be read again, on a kernel.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::table::Edit;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::linux::Linux;
use kube_ipvs_nft::{Config, Elements, Family, Nft, Set, render_table};
use kube_ipvs_tests::{Topology, run, wait_until};
use kube_ipvs_vip::Binding;

use crate::matrix::proxy::Proxy;
use crate::traffic::site::PATIENCE;

/// A plan of one element.
fn guard(vip: &str) -> Plan {
    let mut edit = Edit::default();
    edit.guarded.add.insert(vip.parse().expect("an address"));
    Plan {
        ops: vec![Op::Table(edit.into())],
    }
}

#[track_caller]
fn apply(linux: &mut Linux, plan: &Plan) {
    let report = linux.apply(plan);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
}

#[test]
fn tables_are_as_they_were_until_somebody_else_changes_nftables() {
    let network = Topology::new();
    let node = network.node();
    let setup = Proxy::new(&node, "node-1", Binding::Address).setup;
    node.namespace.run(|| {
        let mut linux = Linux::open(setup).expect("open the dataplane");
        assert!(linux.tables_changed(), "nobody has read them");
        let observed = linux.observe().expect("observe");
        linux.prepare(&observed).expect("prepare");
        let tables = linux.tables().expect("read the tables");
        assert!(tables.is_empty(), "{tables:?}");
        assert!(!linux.tables_changed());

        apply(&mut linux, &guard("10.96.0.10"));
        assert!(!linux.tables_changed(), "it was us");

        run("nft", ["add", "table", "ip", "other"]);
        assert!(linux.tables_changed());
        apply(&mut linux, &guard("10.96.0.11"));
        assert!(linux.tables_changed(), "a change of ours does not hide it");
        let tables = linux.tables().expect("read the tables");
        assert_eq!(tables.guarded.len(), 2);
        assert!(!linux.tables_changed());

        run("nft", ["flush", "set", "ip", "kube-ipvs", "vips"]);
        assert!(linux.tables_changed());
    });
}

/// Where somebody changes nftables every few milliseconds, ours is read and
/// changed all the same.
#[test]
fn a_table_is_read_while_somebody_else_never_stops() {
    const DISTURBED: u32 = 3;
    let network = Topology::new();
    let node = network.node();
    node.namespace.run(|| {
        let mut nft = Nft::open().expect("open nftables");
        let vips = (0..5_000u32).map(|n| Ipv4Addr::from(0x0a60_0000 + n).to_string());
        let elements: Elements = [(Set::Vips, vips.collect())].into();
        let config = Config::new(Family::Ip);
        let table = render_table(&config, &elements).expect("valid");
        nft.apply(&table).expect("make the table");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Ends with the test, whatever becomes of it.
            let _over = Over(&over);
            scope.spawn(|| {
                let mut other = Nft::open().expect("open nftables");
                while !over.load(Ordering::Relaxed) {
                    other.delete_table(Family::Ip6).expect("make and delete");
                }
            });
            let mut disturbed = 0;
            wait_until("it was disturbed", PATIENCE, || {
                let before = nft.now();
                let read = nft.read(Family::Ip).expect("read").expect("a table");
                assert_eq!(read.elements, elements);
                assert_eq!(read.is_intact(&config), Ok(true));
                disturbed += u32::from(nft.now() != before);
                nft.apply(&table).expect("make the table");
                disturbed == DISTURBED
            });
        });
    });
}

/// Tells another thread when this one ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

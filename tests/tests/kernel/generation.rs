//! Whether nftables tables must be read again, on a kernel.

use kube_ipvs::dataplane::Dataplane;
use kube_ipvs::dataplane::linux::Linux;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::table::Edit;
use kube_ipvs_tests::{Topology, run};
use kube_ipvs_vip::Binding;

use crate::matrix::proxy::Proxy;

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

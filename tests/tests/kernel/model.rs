//! The model of the core against the kernel: the same steps on both, drawn by
//! lot, refused by both or by neither, and the same state after.

mod draw;

use std::collections::{BTreeMap, BTreeSet};

use kube_ipvs_core::model::Model;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::KernelState;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::linux::{Linux, Setup};
use kube_ipvs_dataplane::sysctl::{Options, Sysctls};
use kube_ipvs_nft::{Config, Family};
use kube_ipvs_tests::Namespace;
use kube_ipvs_vip::Binding;

use draw::Draw;

const STEPS: usize = 240;
/// Reading everything back starts `nft` twice, so not after each step.
const STEPS_A_LOOK: usize = 12;

#[test]
fn the_model_does_what_the_kernel_does_1() {
    compare(1);
}

#[test]
fn the_model_does_what_the_kernel_does_2() {
    compare(2);
}

fn compare(seed: u64) {
    let _namespace = Namespace::enter();
    let mut kernel = Linux::open(setup()).expect("open the dataplane");
    let observed = kernel.observe().expect("look at an empty kernel");
    kernel.prepare(&observed).expect("prepare it");
    let mut model = Model::default();
    let mut draw = Draw::new(seed);
    let mut refused = 0;
    for number in 0..STEPS {
        let op = draw.step(model.state());
        let at = || format!("seed {seed}, step {number}: {op:?}");
        let expected = model.step(&op);
        let report = kernel.apply(&Plan {
            ops: vec![op.clone()],
        });
        refused += usize::from(expected.is_err());
        if expected.is_err() && is_forgiven(&op) {
            assert!(report.refused.is_empty(), "{}: {report:?}", at());
        } else {
            let agree = expected.is_ok() == report.refused.is_empty();
            assert!(agree, "{}: model {expected:?}, kernel {report:?}", at());
        }
        if number % STEPS_A_LOOK == 0 {
            assert_same(&mut kernel, model.state(), &at());
        }
    }
    assert_same(&mut kernel, model.state(), &format!("seed {seed}, the end"));
    assert!(refused > STEPS / 20, "{refused} refusals try too little");
    assert!(refused < STEPS / 2, "{refused} refusals try too much");
}

/// Steps that the dataplane takes for done when there was nothing to do, though
/// the kernel (and the model, so that plans have no such steps) refuses them.
fn is_forgiven(op: &Op) -> bool {
    match op {
        Op::RemoveVirtualServer(_) | Op::RemoveRealServer(..) => true,
        Op::BindVips(_) | Op::UnbindVips(_) => true,
        // To say again what is said is no error to the table; and one that lacks
        // what is to be removed was changed by somebody, and is made anew.
        Op::Table(_) => true,
        _ => false,
    }
}

#[track_caller]
fn assert_same(kernel: &mut Linux, model: &KernelState, at: &str) {
    let seen = kernel.observe().expect("read the kernel").state;
    assert_eq!(&seen, model, "{at}");
}

pub(crate) fn setup() -> Setup {
    Setup {
        link: "kube-ipvs0".to_owned(),
        binding: Binding::Address,
        tables: [Family::Ip, Family::Ip6].map(Config::new).into(),
        sysctls: Sysctls::wanted(Options {
            ipv6: true,
            strict_arp: false,
            run_estimation: None,
        }),
        sysctl_root: "/proc/sys".into(),
        timeouts: ipvs_netlink::Timeouts {
            tcp: 0,
            tcp_fin: 0,
            udp: 0,
        },
    }
}

/// What the real kernel holds of others does not get into a comparison: the
/// namespace is fresh, and this says so.
#[test]
fn a_fresh_kernel_is_an_empty_model() {
    let _namespace = Namespace::enter();
    let mut kernel = Linux::open(setup()).expect("open the dataplane");

    let observed = kernel.observe().expect("look at it");
    kernel.prepare(&observed).expect("prepare it");
    let prepared = kernel.observe().expect("look again");

    assert_eq!(observed.state, KernelState::default());
    assert_eq!(prepared.state, KernelState::default());
    assert_eq!(kernel.host_addresses().expect("addresses").len(), 2, "lo");
    assert_eq!(kernel.gateways().expect("gateways"), BTreeSet::new());
    let loads = kernel.loads(&"10.96.0.1:80/TCP".parse().expect("a key"));
    assert_eq!(loads.expect("no such server is no error"), BTreeMap::new());
}

//! The kernel tests inside a privileged container, as `kernel-test --native`
//! runs them where CI is a container.

use kube_ipvs_tests::{Namespace, run};

/// Tests of every kind, a few seconds of them.
const PART: [&str; 2] = ["client::services", "nft::verdicts"];

#[test]
fn a_part_of_the_kernel_tests_passes_in_a_privileged_container() {
    let _node = Namespace::enter();

    let said = run("sh", [&["/opt/kube-ipvs/native"][..], &PART].concat());

    assert!(said.contains("test result: ok."), "{said}");
    assert!(!said.contains(" 0 passed"), "{said}");
}

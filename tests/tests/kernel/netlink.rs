//! What the netlink crate tests on the host's own kernel, on the guest's too:
//! there we are root, so nothing is left out.

#[path = "../../../crates/netlink/tests/kernel.rs"]
mod kernel;

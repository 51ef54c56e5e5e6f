//! Tests that need root and a kernel with IPVS. `cargo xtask kernel-test` runs
//! them in a VM, `--native` on this machine. Each brings its own namespaces.

mod broken;
mod cleanup;
mod client;
mod conntrack;
mod daemon;
mod explain;
mod firewall;
mod generation;
mod guard;
mod harness;
mod inspect;
mod lossy;
mod manifests;
mod matrix;
mod migration;
mod model;
mod netlink;
mod nft;
mod snapshot;
mod top;
mod traffic;
mod vip;

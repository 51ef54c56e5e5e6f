//! The `kube-ipvs` command.

fn main() {}

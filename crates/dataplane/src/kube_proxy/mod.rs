//! What a kube-proxy keeps in the kernel, and how to know it.

mod ipset;
pub mod names;
pub mod sets;
mod signs;

pub use ipset::{Destroyed, Ipsets};
pub use signs::signs;

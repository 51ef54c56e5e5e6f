//! Kubernetes objects in, desired kernel state and plans out.
//!
//! This crate is pure: no clock, files, environment, sockets or async. What it
//! decides, the `kube-ipvs` program carries out over the `ipvs`, `vip` and
//! `nft` crates, none of which this one knows.

pub mod state;

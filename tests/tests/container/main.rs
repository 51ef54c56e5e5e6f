//! The program as what it is shipped as: the image of `deploy/Containerfile`
//! with the rights of `deploy/base`, under a container engine.
//!
//! `cargo xtask container-test` runs these in the guest, which has podman.

mod adoption;
mod kubelet;
mod lab;
mod native;
mod once;
mod rights;
mod serving;
mod spec;

//! Where objects come from: the API server, or a directory of manifests.

pub mod kube;
pub mod protected;

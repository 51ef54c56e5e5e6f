//! Where objects come from: the Kubernetes API or a directory of manifests.

pub mod kube;
pub mod manifests;
pub mod protected;

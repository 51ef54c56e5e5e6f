//! Where objects come from: the Kubernetes API or a directory of manifests.
//!
//! What is seen there becomes events of the core, on one channel. Nothing here
//! knows the kernel, or what becomes of an object.

#![cfg_attr(
    not(test),
    deny(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "they panic when the stream is closed or full, and a library is asked nothing"
    )
)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests have servers and threads of their own"
    )
)]

mod backoff;
pub mod input;
pub mod kube;
pub mod manifests;
pub mod protected;
pub mod tasks;

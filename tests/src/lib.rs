//! Harness for the kernel, traffic and daemon tests.

pub mod apiserver;

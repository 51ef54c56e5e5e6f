//! A fake Kubernetes API server: real HTTP, its own thread and runtime, faults
//! on command.
//!
//! It knows no schema. Objects are JSON with a resource version, kept by
//! resource, namespace and name; lists, watches, bookmarks, streaming lists,
//! pagination and 410 follow the rules of Kubernetes 1.36 as far as a proxier
//! can see them. The thread is started by [`ApiServer::start`] and so lives in
//! the caller's network namespace.

mod access;
mod fault;
mod handle;
mod objects;
pub mod replica;
mod reply;
mod request;
pub mod role;
mod selector;
mod serve;
mod store;
mod tls;
mod watch;

pub use access::Access;
pub use fault::Fault;
pub use handle::{ApiServer, Backup, Options};
pub use objects::{api_server_slice, endpoint_slice, node, service, service_cidr};
pub use request::Request;

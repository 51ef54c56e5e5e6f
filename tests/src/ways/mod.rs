//! Ways in which a Service or a node breaks: what is asked then, what is said,
//! what is said nowhere in the answer, and what to do.
//!
//! The kernel tests break a node in each of them (`tests/kernel/broken`,
//! `tests/kernel/explain.rs`), and docs/troubleshooting.md has each as an entry:
//! this is the one table of both. `KUBE_IPVS_WRITE=1 cargo test -p kube-ipvs-tests
//! --lib ways` writes the entries.

mod kernel;
mod node;
pub mod rollout;
mod services;
#[cfg(test)]
mod tests;

pub use kernel::KERNEL;
pub use node::*;
pub use services::SERVICES;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Ask {
    /// `kube-ipvs explain` of a Service, or a port of it.
    Service(&'static str),
    /// The same of an address and port.
    Front(&'static str),
    /// The same for one client.
    From(&'static str, &'static str),
    /// `kube-ipvs status`.
    Status,
}

impl Ask {
    /// The arguments of the program.
    pub fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::Service(target) | Self::Front(target) => vec!["explain", target],
            Self::From(target, client) => vec!["explain", target, "--from", client],
            Self::Status => vec!["status"],
        }
    }
}

/// One way.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// What somebody sees, or did.
    pub symptom: &'static str,
    /// What is asked.
    pub ask: Ask,
    /// What the answer has in it, as a test finds it.
    pub answer: &'static str,
    /// What of that is quoted, `…` being what differs from node to node.
    pub says: &'static str,
    /// What must not stand anywhere in the answer.
    pub never: &'static [&'static str],
    /// What to do.
    pub remedy: &'static str,
}

impl Way {
    /// Panics unless `text` answers so.
    #[track_caller]
    pub fn check(&self, text: &str) {
        let Self { answer, never, .. } = self;
        assert!(text.contains(answer), "{self:?}: not so but\n{text}");
        for never in *never {
            assert!(!text.contains(never), "{self:?}: {never:?} in\n{text}");
        }
    }
}

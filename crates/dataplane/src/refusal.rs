//! What the kernel would not do.

use std::fmt;

use kube_ipvs_core::Change;
use nix::errno::Errno;

/// What a refusal says of everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Nothing: this one thing was refused.
    Own,
    /// It is there already: not as we thought, so look again.
    Exists,
    /// It, or what it belongs to, is not there: look again.
    Missing,
    /// Everything of the kind is refused: no right, no memory, no program.
    Whole,
    /// Nobody knows how far it got.
    Unknown,
}

impl Nature {
    /// What the kernel's answer to a change means. `ENOENT` for a virtual server
    /// is a scheduler that is not there.
    pub fn of(change: Change, errno: Option<Errno>) -> Self {
        match (change, errno) {
            (_, Some(Errno::EPERM | Errno::EACCES)) => Self::Whole,
            (Change::AddVirtualServer(_) | Change::AddRealServer(..), Some(Errno::EEXIST)) => {
                Self::Exists
            }
            (Change::AddVirtualServer(_), Some(Errno::ESRCH)) => Self::Own,
            (_, Some(Errno::ESRCH)) => Self::Missing,
            (Change::EditRealServer(..), Some(Errno::ENOENT)) => Self::Missing,
            _ => Self::Own,
        }
    }

    /// Whether it is the node's trouble, not that of one Service.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Whole | Self::Unknown)
    }
}

/// One thing the kernel would not do.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Kind of the operation, for metrics: `virtual_server`, `real_server`,
    /// `vip`, `table`, `netlink`, `conntrack`, `record`.
    pub kind: &'static str,
    /// What was refused, where it is one thing.
    pub change: Option<Change>,
    /// What that means for the rest.
    pub nature: Nature,
    /// The whole story: operation, object, errno, remedy.
    pub error: String,
}

impl Refusal {
    /// One change was refused.
    pub fn of(change: Change, nature: Nature, error: impl Into<String>) -> Self {
        Self {
            kind: change.object(),
            change: Some(change),
            nature,
            error: error.into(),
        }
    }

    /// Something went wrong that is no single change.
    pub fn general(kind: &'static str, nature: Nature, error: impl Into<String>) -> Self {
        Self {
            kind,
            change: None,
            nature,
            error: error.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_it_means_for_the_rest() {
        let key = "10.96.0.1:80/TCP".parse().unwrap();
        let real = "10.244.1.7:8080".parse().unwrap();
        let server = Change::AddVirtualServer(key);
        let add = Change::AddRealServer(key, real);
        let edit = Change::EditRealServer(key, real);
        for (change, errno, nature) in [
            // No such scheduler.
            (server, Errno::ENOENT, Nature::Own),
            (Change::EditVirtualServer(key), Errno::ENOENT, Nature::Own),
            (server, Errno::EEXIST, Nature::Exists),
            (server, Errno::ENOMEM, Nature::Own),
            (server, Errno::EPERM, Nature::Whole),
            (add, Errno::EINVAL, Nature::Own),
            (add, Errno::EEXIST, Nature::Exists),
            (add, Errno::ESRCH, Nature::Missing),
            (edit, Errno::ENOENT, Nature::Missing),
            (edit, Errno::ERANGE, Nature::Own),
        ] {
            assert_eq!(Nature::of(change, Some(errno)), nature, "{change} {errno}");
        }
    }
}

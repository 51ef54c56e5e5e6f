//! Why nobody answers, in words that claim no more than is known.

use std::fmt;

use kube_ipvs_core::state::Family;
use serde::Serialize;

use super::reason::plural;

/// Why nobody answers, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "n")]
pub(crate) enum Nobody {
    /// Only a running daemon would know.
    Unknown,
    /// It has no endpoints.
    NoEndpoints,
    /// It has none of this family, only of the other.
    NoneOfFamily(#[serde(serialize_with = "family_word")] Family),
    /// It has so many, and none of them is ready.
    NoneReady(usize),
    /// It has so many ready ones, none on this node, and its policy is Local.
    NoneHere(usize),
    /// None is ready, so many leave and serve on, none of these on this node, and its policy is
    /// Local.
    LeavingElsewhere(usize),
    /// The kernel refused its virtual server: the whole story.
    RefusedByKernel(String),
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "no endpoint that this node may use is ready, or the kernel refused its virtual server",
            ),
            Self::NoEndpoints => f.write_str("the port has no endpoints"),
            Self::NoneOfFamily(family) => {
                let other = family.other();
                write!(f, "the port has no endpoints of {family}, only of {other}")
            }
            Self::NoneReady(n) => {
                let noun = plural(*n, "endpoint");
                write!(f, "none of the port's {n} {noun} is ready")
            }
            Self::NoneHere(n) => {
                let noun = plural(*n, "ready endpoint");
                write!(f, "the policy is Local, and of the port's {n} {noun} none is on this node")
            }
            Self::LeavingElsewhere(n) => {
                let noun = plural(*n, "endpoint");
                write!(
                    f,
                    "the policy is Local, none of the port's endpoints is ready, and of its {n} \
                     leaving {noun} none is on this node"
                )
            }
            Self::RefusedByKernel(error) => {
                write!(f, "the kernel refuses what it needs: {error}")
            }
        }
    }
}

fn family_word<S: serde::Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(family)
}

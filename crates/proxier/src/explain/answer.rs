//! The real servers that answer, in words.

use std::fmt;

use ipnet::IpNet;
use kube_ipvs_core::row::Masquerade;
use kube_ipvs_core::state::VirtualServerKey;
use serde::Serialize;

use super::nobody::Nobody;
use super::reason::{names, plural};

/// The real servers that answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// How many take new connections.
    pub open: usize,
    /// How many keep the connections that they have.
    pub draining: usize,
    /// How many endpoints the port has, where none is ready: those that answer are leaving.
    pub leaving: Option<usize>,
    /// How many are ready elsewhere, where the policy keeps to this node: those that answer
    /// are leaving.
    pub leaving_here: Option<usize>,
    /// The mark whose virtual server it is.
    pub by: Option<VirtualServerKey>,
    /// Whose address they see.
    pub masquerade: Masquerade,
    /// For these clients only; none is everybody.
    pub only: Option<Vec<IpNet>>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = plural(self.open, "real server");
        write!(f, "by {} {noun}", self.open)?;
        if let Some(by) = self.by {
            write!(f, " of {by}")?;
        }
        if self.draining > 0 {
            write!(f, ", {} more at weight 0", self.draining)?;
        }
        f.write_str(match self.masquerade {
            Masquerade::Never => "",
            Masquerade::OffCluster => ", with this node as source unless a local pod asks",
            Masquerade::Always => ", with this node as source",
        })?;
        if let Some(only) = &self.only {
            write!(f, ", for {} only; others are dropped", names(only))?;
        }
        let who = match self.open {
            1 => "it is leaving: ",
            _ => "they are leaving: ",
        };
        let why = match (self.leaving, self.leaving_here) {
            (Some(all), _) => Nobody::NoneReady(all),
            (None, Some(ready)) => Nobody::NoneHere(ready),
            (None, None) => return Ok(()),
        };
        write!(f, "; {who}{why}")
    }
}

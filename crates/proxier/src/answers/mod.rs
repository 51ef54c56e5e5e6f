//! What the running daemon knows, for the tools of the same node: a question
//! and its answer over a unix socket in the state directory.
//!
//! One JSON object a connection each way. Who may search the directory may ask:
//! that is root. Questions change nothing, are answered one at a time between
//! two rounds of the loop, and cost as much as the Service asked about is big.
//! That about the daemon itself is answered in a round too, without the loop's part.

mod client;
mod node;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_ipvs_core::Account;
use kube_ipvs_core::state::VirtualServerKey;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub(crate) use client::{ask, ask_node};
pub(crate) use node::{AuditPace, Held, LastRound, LoopReport, NodeReport, RefusedThere};
pub(crate) use server::{Questions, serve};

/// Of the form of [`Told`].
pub(crate) const VERSION: u32 = 2;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// A Service; without a namespace that in `default`, or the only one.
    Service {
        /// Its namespace.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// The Service that has a front or mark.
    Front(VirtualServerKey),
    /// The daemon itself: answered with a [`NodeReport`], all others with [`Told`].
    Node,
}

/// What the loop answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a Service.
    Service(Box<Told>),
    /// Of itself.
    Loop(Box<LoopReport>),
}

/// What the daemon knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// See [`VERSION`].
    pub version: u32,
    /// Kinds whose first full list is still missing: until then there may be more.
    pub awaited: Vec<String>,
    /// What could not be read of it, so that there may be more than is told.
    #[serde(default)]
    pub unread: Option<String>,
    /// Why this node is not ready, by a short word: `manifests`, `api`.
    #[serde(default)]
    pub reasons: BTreeMap<String, String>,
    /// What is told beside that, and keeps nobody from being ready: `api`.
    #[serde(default)]
    pub warnings: BTreeMap<String, String>,
    /// The Service, if there is one.
    pub account: Option<Account>,
    /// Services with the same name in other namespaces.
    pub elsewhere: Vec<String>,
    /// If there is none: Services with names that are nearly the same.
    pub near: Vec<String>,
    /// What the kernel refuses of it.
    pub refused: Vec<Refused>,
}

impl Told {
    /// Kinds whose first full list is still missing.
    pub fn awaits(&self) -> impl Iterator<Item = &str> {
        self.awaited.iter().map(String::as_str)
    }

    /// Whether there may be more than is told.
    pub fn is_partial(&self) -> bool {
        !self.awaited.is_empty() || self.unread.is_some()
    }

    /// Why its sources are not what the cluster is now.
    pub fn source_reasons(&self) -> impl Iterator<Item = &str> {
        let sources = ["manifests", "api"].iter();
        let told = |word| self.reasons.get(word).or_else(|| self.warnings.get(word));
        sources.filter_map(move |word| told(*word).map(String::as_str))
    }

    /// Whether it tells of a front or mark.
    pub fn has(&self, key: &VirtualServerKey) -> bool {
        let mut accounts = self.account.iter();
        accounts.any(|of| {
            of.fronts
                .iter()
                .any(|held| held.key == *key && held.port.is_some())
        })
    }
}

/// Something that the kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// In words: `virtual server 10.96.0.10:80/TCP`, `vip 10.96.0.10`.
    pub what: String,
    /// The virtual server that it belongs to, if it is one's.
    pub key: Option<VirtualServerKey>,
    /// Else the address.
    pub address: Option<IpAddr>,
    /// The whole story: operation, object, errno, remedy.
    pub error: String,
}

/// A question on its way to the loop.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes. Who gave up waiting has dropped its other end.
    pub reply: oneshot::Sender<Reply>,
}

/// Namespace and name of `namespace/name:port`.
pub(crate) fn split(service: &str) -> (&str, &str) {
    object(service).split_once('/').unwrap_or_default()
}

/// `namespace/name` of `namespace/name:port`.
pub(crate) fn object(service: &str) -> &str {
    service.split(':').next().unwrap_or_default()
}

/// Those of some Services, as `namespace/name`, that have nearly this name: the
/// nearest first, and few.
pub(crate) fn near(name: &str, services: impl Iterator<Item = String>) -> Vec<String> {
    const MOST: usize = 5;
    let all: BTreeSet<String> = services.collect();
    let mut near: Vec<(usize, String)> = all
        .into_iter()
        .filter(|service| split(service).1.len().abs_diff(name.len()) <= 2)
        .map(|service| {
            // Names have small letters only, and people have others.
            let name = name.to_lowercase();
            (strsim::levenshtein(&name, split(&service).1), service)
        })
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    near.sort();
    near.truncate(MOST);
    near.into_iter().map(|(_, service)| service).collect()
}

#[cfg(test)]
mod tests;

//! The cluster as the sources told it, and what it compiles to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::diff::Touched;
use crate::event::Event;
use crate::k8s::Node;
use crate::names::{ServiceName, ServicePortName, Warning};
use crate::options::Options;
use crate::state::{KernelState, VirtualServerKey};

/// What a health-check node port answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthCheck {
    /// The Service.
    pub service: ServiceName,
    /// Port to listen on.
    pub port: u16,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
    /// Load-balancer addresses of the Service on which it should answer too.
    pub vips: BTreeSet<IpAddr>,
}

/// All objects, and the kernel state they ask for.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    desired: KernelState,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            desired: KernelState::default(),
        }
    }

    /// Takes in what a source saw. Cheap: the Services concerned are marked and
    /// compiled by the next [`Self::compile`].
    pub fn apply(&mut self, _event: Event) {}

    /// Whether every kind needed has been listed whole. Before that the desired
    /// state must not be used to remove anything.
    pub fn synced(&self) -> bool {
        false
    }

    /// Compiles the Services that changed; says what may differ in [`Self::desired`].
    pub fn compile(&mut self) -> Touched {
        Touched::default()
    }

    /// What the kernel should hold, as of the last [`Self::compile`].
    pub fn desired(&self) -> &KernelState {
        &self.desired
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What is wrong with the objects now.
    pub fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    /// Health-check node ports that must be answered.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        Vec::new()
    }

    /// Whom a virtual server belongs to.
    pub fn service_of(&self, _key: &VirtualServerKey) -> Option<ServicePortName> {
        None
    }

    /// This node's object, once seen.
    pub fn node(&self) -> Option<&Node> {
        None
    }

    /// Networks of cluster addresses, from ServiceCIDRs.
    pub fn service_cidrs(&self) -> BTreeSet<IpNet> {
        BTreeSet::new()
    }
}

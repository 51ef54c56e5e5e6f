//! NodePorts on 127.0.0.1 and ::1, by a small TCP forwarder.
//!
//! IPVS refuses to cross from the loopback network, and `route_localnet` opens
//! loopback addresses to neighbours. So this program listens there itself, where
//! the operator names loopback among the addresses of NodePorts, and carries the
//! bytes to an endpoint: as kube-proxy's nftables mode does since 1.37. What is
//! listened on, for whom and where it leads is decided in the core.
//!
//! Connections and ports are bounded. A port that a program of the host has is
//! left to it, and told.

mod forward;
mod listener;
mod route;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Kind, LocalhostPort, LocalhostPorts, Regarding, Warning};
use kube_ipvs_source::tasks::Tasks;
use nix::errno::Errno;
use tokio::sync::Semaphore;

use crate::health::connections::descriptors;
use crate::metrics::Metrics;
use listener::{Common, Listener};

/// What the forwarder may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections to all ports; each takes six descriptors and up to 32 KiB
    /// on their way.
    pub connections: usize,
    /// Most ports.
    pub ports: usize,
}

impl Bounds {
    /// For a process that may have so many descriptors: an eighth of them at most.
    pub fn of(descriptors: u64) -> Self {
        let share = |part: u64| usize::try_from(descriptors / part).unwrap_or(usize::MAX);
        Self {
            connections: share(64).clamp(4, 1024),
            ports: share(32).max(4),
        }
    }

    /// Most connections to one port: half, so that one that is full leaves room
    /// for others.
    fn of_one(self) -> usize {
        (self.connections / 2).max(1)
    }
}

/// All ports of loopback addresses that are listened on.
#[derive(Debug)]
pub struct LocalhostNodePorts {
    common: Common,
    most: usize,
    wanted: Arc<LocalhostPorts>,
    open: BTreeMap<SocketAddr, Listener>,
    /// Those that could not be opened, and what was said of it.
    unopened: BTreeMap<SocketAddr, Warning>,
}

impl LocalhostNodePorts {
    /// None open. Bounded by the descriptors that this process may have.
    pub fn new(tasks: Tasks, metrics: Metrics) -> Self {
        Self::within(Bounds::of(descriptors()), tasks, metrics)
    }

    /// The same with these bounds.
    pub fn within(bounds: Bounds, tasks: Tasks, metrics: Metrics) -> Self {
        let common = Common {
            tasks,
            metrics,
            places: Arc::new(Semaphore::new(bounds.connections)),
            most_of_one: bounds.of_one(),
        };
        Self {
            common,
            most: bounds.ports,
            wanted: Arc::default(),
            open: BTreeMap::new(),
            unopened: BTreeMap::new(),
        }
    }

    /// Listens on exactly these ports. Costs nothing as long as they are the same
    /// pointer. May be called from any thread.
    ///
    /// Returns what is new about ports that could not be opened; they are tried
    /// again with the next change and by [`Self::retry`].
    pub fn sync(&mut self, wanted: &Arc<LocalhostPorts>) -> Vec<Warning> {
        if Arc::ptr_eq(&self.wanted, wanted) {
            return Vec::new();
        }
        self.wanted = wanted.clone();
        self.open.retain(|at, _| wanted.contains_key(at));
        self.unopened.retain(|at, _| wanted.contains_key(at));
        self.listen(wanted)
    }

    /// Tries again to open what could not be opened. As [`Self::sync`].
    pub fn retry(&mut self) -> Vec<Warning> {
        if self.unopened.is_empty() {
            return Vec::new();
        }
        let wanted = self.wanted.clone();
        self.listen(&wanted)
    }

    /// Sockets that are open.
    pub fn open(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.keys().copied()
    }

    fn listen(&mut self, wanted: &LocalhostPorts) -> Vec<Warning> {
        let mut news = Vec::new();
        for (at, port) in wanted {
            match self.ensure(*at, port) {
                Ok(()) => _ = self.unopened.remove(at),
                Err(error) => {
                    self.common.metrics.localhost_unopened(Family::of(at.ip()));
                    let warning = warning(*at, port, &error);
                    let before = self.unopened.insert(*at, warning.clone());
                    if before.as_ref() != Some(&warning) {
                        news.push(warning);
                    }
                }
            }
        }
        for family in [Family::V4, Family::V6] {
            let of_family = self.open.keys().filter(|at| Family::of(at.ip()) == family);
            let count = of_family.count();
            self.common.metrics.localhost_listeners(family, count);
        }
        news
    }

    fn ensure(&mut self, at: SocketAddr, port: &Arc<LocalhostPort>) -> io::Result<()> {
        match self.open.get(&at) {
            Some(listener) if listener.is_of(port) => {
                listener.update(port);
                return Ok(());
            }
            // Another Service has the port now: connections to the old one end.
            Some(_) => _ = self.open.remove(&at),
            None => {}
        }
        if self.open.len() >= self.most {
            return Err(io::Error::other(format!(
                "{} ports are open, as many as the limit of open files allows; raise it",
                self.most
            )));
        }
        let listener = Listener::open(at, port, &self.common)?;
        self.open.insert(at, listener);
        Ok(())
    }
}

fn warning(at: SocketAddr, port: &LocalhostPort, error: &io::Error) -> Warning {
    let service = &port.service.service;
    let remedy = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => {
            "; a program of this node has the port and keeps it: end that, or choose another nodePort"
        }
        Some(Errno::EACCES) => "; give kube-ipvs the capability NET_BIND_SERVICE",
        _ => "",
    };
    Warning {
        object: Regarding::named(Kind::Service, &service.namespace, &service.name, port.uid),
        message: format!(
            "nodePort {} is not served on {}, listen: {error}{remedy}; it is tried again",
            at.port(),
            at.ip()
        ),
    }
}

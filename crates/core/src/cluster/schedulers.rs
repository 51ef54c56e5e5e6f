//! Schedulers that Services name, and those of them that the kernel lacks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::Cluster;
use crate::names::ServiceName;
use crate::services::Service;

#[derive(Debug, Default)]
pub(super) struct Schedulers {
    wanted: BTreeMap<&'static str, BTreeSet<ServiceName>>,
    missing: BTreeSet<String>,
}

impl Schedulers {
    /// Takes in what a Service names now; none when it is gone.
    pub(super) fn follow(&mut self, name: &ServiceName, service: Option<&Service>) {
        let wanted = service.and_then(Service::named_scheduler);
        self.wanted.retain(|scheduler, services| {
            if wanted != Some(*scheduler) {
                services.remove(name);
            }
            !services.is_empty()
        });
        if let Some(scheduler) = wanted {
            let services = self.wanted.entry(scheduler).or_default();
            services.insert(name.clone());
        }
    }

    /// Takes in what the kernel lacks; gives the Services that this concerns.
    pub(super) fn lacks(&mut self, missing: BTreeSet<String>) -> Vec<ServiceName> {
        let changed = &self.missing ^ &missing;
        self.missing = missing;
        let services = changed.iter().filter_map(|it| self.wanted.get(it.as_str()));
        services.flatten().cloned().collect()
    }

    pub(super) fn missing(&self) -> &BTreeSet<String> {
        &self.missing
    }
}

impl Cluster {
    /// Schedulers that Services name: those the kernel should be asked for.
    pub fn wanted_schedulers(&self) -> impl Iterator<Item = &'static str> {
        self.schedulers.wanted.keys().copied()
    }
}

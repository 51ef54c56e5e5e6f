//! Changes that no round has taken in, or carried out, yet.

use std::time::Duration;

use jiff::Timestamp;
use kube_ipvs_core::k8s::Object;
use kube_ipvs_core::{Event, Kind};

use crate::metrics::Metrics;

/// Annotation of EndpointSlices: when the change behind them happened.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// How many changes wait for a round, and since when.
#[derive(Debug, Default)]
pub(super) struct Pending {
    services: usize,
    endpoints: usize,
    /// The oldest change of an EndpointSlice that no round has carried out.
    triggered: Option<Timestamp>,
}

impl Pending {
    /// One more, counted.
    pub(super) fn event(&mut self, event: &Event, metrics: &Metrics) {
        let kind = match event {
            Event::Upsert(object) => Some(object.kind()),
            Event::Delete(object) => Some(object.kind),
            _ => None,
        };
        match kind {
            Some(Kind::EndpointSlice) => {
                metrics.endpoint_changes(1);
                self.endpoints += 1;
            }
            Some(Kind::Service) => {
                metrics.service_changes(1);
                self.services += 1;
            }
            _ => {}
        }
        if let Event::Upsert(Object::EndpointSlice(slice)) = event {
            let time = slice.metadata.annotations.get(TRIGGER_TIME);
            if let Some(time) = time.and_then(|text| text.parse().ok()) {
                self.triggered = Some(self.triggered.map_or(time, |first| first.min(time)));
            }
        }
    }

    /// Says how many wait.
    pub(super) fn show(&self, metrics: &Metrics) {
        metrics.service_changes_pending(self.services);
        metrics.endpoint_changes_pending(self.endpoints);
    }

    /// A round took them in.
    pub(super) fn taken_in(&mut self) {
        (self.services, self.endpoints) = (0, 0);
    }

    /// A round carried them out; says how long the oldest had waited for that.
    pub(super) fn carried_out(&mut self) -> Option<Duration> {
        let waited = Timestamp::now().duration_since(self.triggered.take()?);
        Some(Duration::try_from(waited).unwrap_or_default())
    }
}

//! Which endpoint a connection gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_ipvs_core::LocalhostPort;

/// Where connections to one port go.
#[derive(Debug)]
pub(super) struct Route {
    port: Arc<LocalhostPort>,
    /// With session affinity: the endpoint of the last connection, and when that was.
    pinned: Option<(SocketAddr, Instant)>,
}

impl Route {
    pub(super) fn new(port: Arc<LocalhostPort>) -> Self {
        Self { port, pinned: None }
    }

    /// Goes by this from now on. Open connections stay where they are.
    pub(super) fn update(&mut self, port: &Arc<LocalhostPort>) {
        if port.affinity != self.port.affinity {
            self.pinned = None;
        }
        self.port = port.clone();
    }

    /// One endpoint, by `random`, which is given how many there are. All clients
    /// have the same address here, so affinity means that they share one until
    /// nobody has connected for as long as it lasts.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        random: impl FnOnce(usize) -> usize,
    ) -> Option<SocketAddr> {
        let endpoints = &self.port.endpoints;
        let Some(seconds) = self.port.affinity else {
            return endpoints.get(random(endpoints.len())).copied();
        };
        let lasts = Duration::from_secs(seconds.into());
        let pinned = self.pinned.filter(|(endpoint, last)| {
            now.saturating_duration_since(*last) <= lasts
                && endpoints.binary_search(endpoint).is_ok()
        });
        let chosen = match pinned {
            Some((endpoint, _)) => endpoint,
            None => *endpoints.get(random(endpoints.len()))?,
        };
        self.pinned = Some((chosen, now));
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube_ipvs_core::{ServiceName, ServicePortName};

    use super::*;

    fn port(endpoints: &[&str], affinity: Option<u32>) -> Arc<LocalhostPort> {
        let endpoints = endpoints.iter().map(|at| at.parse().expect("an endpoint"));
        Arc::new(LocalhostPort {
            service: ServicePortName {
                service: ServiceName::new("default", "web"),
                port: "".into(),
            },
            uid: None,
            endpoints: endpoints.collect(),
            affinity,
        })
    }

    const THREE: [&str; 3] = ["10.244.1.7:80", "10.244.1.8:80", "10.244.1.9:80"];

    fn chosen(route: &mut Route, now: Instant, random: usize) -> String {
        let chosen = route.choose(now, |_| random).expect("an endpoint");
        chosen.to_string()
    }

    #[test]
    fn every_endpoint_has_its_turn_and_no_other_number_is_asked_for() {
        let mut route = Route::new(port(&THREE, None));
        let now = Instant::now();

        let all: BTreeSet<_> = (0..3).map(|n| chosen(&mut route, now, n)).collect();

        assert_eq!(all, THREE.map(str::to_owned).into());
        route.choose(now, |count| {
            assert_eq!(count, 3);
            0
        });
    }

    #[test]
    fn affinity_keeps_to_one_as_long_as_somebody_connects_in_time() {
        let mut route = Route::new(port(&THREE, Some(60)));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);

        assert_eq!(chosen(&mut route, now, 1), THREE[1]);
        assert_eq!(chosen(&mut route, after(60), 0), THREE[1]);
        assert_eq!(chosen(&mut route, after(120), 0), THREE[1]);
        assert_eq!(chosen(&mut route, after(181), 0), THREE[0]);
    }

    #[test]
    fn an_endpoint_that_went_is_kept_to_no_longer() {
        let mut route = Route::new(port(&THREE, Some(60)));
        let now = Instant::now();
        assert_eq!(chosen(&mut route, now, 1), THREE[1]);

        route.update(&port(&[THREE[0], THREE[2]], Some(60)));

        assert_eq!(chosen(&mut route, now, 1), THREE[2]);
    }

    #[test]
    fn others_come_and_the_pin_stays_but_not_when_affinity_changes() {
        let mut route = Route::new(port(&THREE[..2], Some(60)));
        let now = Instant::now();
        assert_eq!(chosen(&mut route, now, 1), THREE[1]);

        route.update(&port(&THREE, Some(60)));
        assert_eq!(chosen(&mut route, now, 0), THREE[1]);

        route.update(&port(&THREE, Some(90)));
        assert_eq!(chosen(&mut route, now, 0), THREE[0]);

        route.update(&port(&THREE, None));
        assert_eq!(chosen(&mut route, now, 2), THREE[2]);
    }
}

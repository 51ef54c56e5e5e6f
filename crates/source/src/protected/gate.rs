//! Holds a Service back until the addresses it claims from outside have been
//! checked. Pure: events in, events out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::{Object, Service};
use kube_ipvs_core::read;
use kube_ipvs_core::regarding::Reference;

use super::Checked;

/// What has come and not been passed on yet.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Addresses from outside, by the Service that claims them.
    claims: BTreeMap<ObjectRef, BTreeSet<IpAddr>>,
    /// Services of the list that runs.
    listed: Option<BTreeSet<ObjectRef>>,
    /// Services whose claims are being checked, as they were seen last.
    held: BTreeMap<ObjectRef, Event>,
    /// Services held when the list that runs began.
    held_before: BTreeMap<ObjectRef, Event>,
    /// The list of Services is complete, but for the held ones.
    completed: bool,
    checked: Checked,
    /// Protected in any case.
    always: BTreeSet<IpAddr>,
    sent: Option<BTreeSet<IpAddr>>,
    sent_unchecked: BTreeSet<IpAddr>,
}

impl Gate {
    pub(super) fn new(always: BTreeSet<IpAddr>) -> Self {
        Self {
            always,
            ..Self::default()
        }
    }

    /// All addresses that Services claim from outside.
    pub(super) fn claimed(&self) -> BTreeSet<IpAddr> {
        self.claims.values().flatten().copied().collect()
    }

    /// Takes an event in; returns what may pass.
    pub(super) fn event(&mut self, event: Event) -> Vec<Event> {
        match &event {
            Event::Upsert(Object::Service(service)) => {
                let reference = service_reference(service);
                let claims = claims(service);
                self.list(&reference);
                self.held_before.remove(&reference);
                if claims.is_empty() {
                    self.claims.remove(&reference);
                } else {
                    self.claims.insert(reference.clone(), claims);
                }
                self.held.insert(reference, event);
            }
            Event::Unreadable(Reference {
                object: reference, ..
            }) if reference.kind == Kind::Service => {
                self.list(reference);
                // What it was before stays, held or not.
                if let Some(last_good) = self.held_before.remove(reference) {
                    self.held.insert(reference.clone(), last_good);
                }
                return self.passing(Some(event));
            }
            Event::Delete(reference) if reference.kind == Kind::Service => {
                self.claims.remove(reference);
                self.held.remove(reference);
                self.held_before.remove(reference);
                return self.passing(Some(event));
            }
            Event::ListStarted(Kind::Service) => {
                // What exists will be listed anew.
                self.held_before.append(&mut self.held);
                self.completed = false;
                self.listed = Some(BTreeSet::new());
                return vec![event];
            }
            Event::ListCompleted(Kind::Service) => {
                let listed = self.listed.take().unwrap_or_default();
                self.claims
                    .retain(|reference, _| listed.contains(reference));
                self.held_before.clear();
                self.completed = true;
            }
            _ => return vec![event],
        }
        self.passing(None)
    }

    /// Takes the outcome of a list in; returns what may pass now.
    pub(super) fn checked(&mut self, checked: Checked) -> Vec<Event> {
        self.checked = checked;
        self.passing(None)
    }

    fn list(&mut self, reference: &ObjectRef) {
        if let Some(listed) = &mut self.listed {
            listed.insert(reference.clone());
        }
    }

    fn passing(&mut self, first: Option<Event>) -> Vec<Event> {
        let mut passing: Vec<Event> = first.into_iter().collect();
        // Goes before the Services, so that none is bound for a moment.
        passing.extend(self.protected());
        let may_pass = |claims: Option<&BTreeSet<IpAddr>>| {
            self.checked.failure.is_some()
                || claims.is_none_or(|claims| claims.is_subset(&self.checked.addresses))
        };
        let (pass, hold): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(reference, _)| may_pass(self.claims.get(reference)));
        self.held = hold;
        passing.extend(pass.into_values());
        if self.completed && self.held.is_empty() {
            self.completed = false;
            passing.push(Event::ListCompleted(Kind::Service));
        }
        passing
    }

    /// The protected addresses, if they changed, then the unchecked ones: claims
    /// that were not held against a list because it failed.
    fn protected(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let protected = &self.checked.others | &self.always;
        if self.sent.as_ref() != Some(&protected) {
            self.sent = Some(protected.clone());
            events.push(Event::Protected(protected));
        }
        let unchecked = match self.checked.failure {
            Some(_) => &self.claimed() - &self.checked.addresses,
            None => BTreeSet::new(),
        };
        if self.sent_unchecked != unchecked {
            self.sent_unchecked.clone_from(&unchecked);
            events.push(Event::Unchecked(unchecked));
        }
        events
    }
}

/// Addresses a Service takes from outside the cluster's own ranges.
fn claims(service: &Service) -> BTreeSet<IpAddr> {
    let external = service.spec.external_ips.iter().map(String::as_str);
    let ingress = &service.status.load_balancer.ingress;
    let captured = ingress
        .iter()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let load_balancer = captured.filter_map(|ingress| ingress.ip.as_deref());
    external
        .chain(load_balancer)
        .filter_map(|text| Some(read::address(text)?.value))
        .collect()
}

fn service_reference(service: &Service) -> ObjectRef {
    ObjectRef {
        kind: Kind::Service,
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, external: &[&str]) -> Event {
        let mut service = Service::default();
        service.metadata.name = name.to_owned();
        service.spec.external_ips = external.iter().map(|text| (*text).to_owned()).collect();
        Event::Upsert(Object::from(service))
    }

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    fn found(checked: &[&str], others: &[&str]) -> Checked {
        Checked {
            addresses: addresses(checked),
            others: addresses(others),
            failure: None,
        }
    }

    fn protected(texts: &[&str]) -> Event {
        Event::Protected(addresses(texts))
    }

    const STARTED: Event = Event::ListStarted(Kind::Service);
    const COMPLETED: Event = Event::ListCompleted(Kind::Service);

    #[test]
    fn service_without_claims_passes_at_once() {
        let mut gate = Gate::default();

        assert_eq!(
            gate.event(service("web", &[])),
            [protected(&[]), service("web", &[])]
        );
        assert_eq!(gate.event(service("web", &[])), [service("web", &[])]);
    }

    #[test]
    fn claim_waits_until_it_is_checked_and_nodes_are_protected_first() {
        let mut gate = Gate::default();
        assert_eq!(gate.event(service("web", &["192.0.2.9"])), [protected(&[])]);
        assert_eq!(gate.claimed(), addresses(&["192.0.2.9"]));

        let passing = gate.checked(found(&["192.0.2.9"], &["192.0.2.9"]));

        assert_eq!(
            passing,
            [protected(&["192.0.2.9"]), service("web", &["192.0.2.9"])]
        );
    }

    #[test]
    fn list_is_complete_when_the_held_services_have_passed() {
        let mut gate = Gate::default();
        gate.event(STARTED);
        gate.event(service("edge", &["203.0.113.80"]));
        gate.event(service("web", &[]));

        assert_eq!(gate.event(COMPLETED), []);
        let passing = gate.checked(found(&["203.0.113.80"], &[]));

        assert_eq!(passing, [service("edge", &["203.0.113.80"]), COMPLETED]);
    }

    #[test]
    fn failure_lets_services_pass_with_their_claims_unchecked() {
        let mut gate = Gate::default();
        gate.event(service("edge", &["203.0.113.80"]));

        let passing = gate.checked(Checked {
            failure: Some("forbidden".into()),
            ..Checked::default()
        });

        assert_eq!(
            passing,
            [
                Event::Unchecked(addresses(&["203.0.113.80"])),
                service("edge", &["203.0.113.80"])
            ]
        );
        assert_eq!(
            gate.checked(found(&["203.0.113.80"], &["203.0.113.80"])),
            [
                protected(&["203.0.113.80"]),
                Event::Unchecked(BTreeSet::new())
            ]
        );
    }

    #[test]
    fn deleted_service_is_held_no_longer() {
        let mut gate = Gate::default();
        gate.event(service("edge", &["203.0.113.80"]));
        let deletion = Event::Delete(ObjectRef {
            kind: Kind::Service,
            namespace: String::new(),
            name: "edge".into(),
        });

        assert_eq!(gate.event(deletion.clone()), [deletion]);
        assert!(gate.claimed().is_empty());
        assert_eq!(gate.checked(found(&["203.0.113.80"], &[])), []);
    }

    #[test]
    fn list_that_starts_over_forgets_what_was_held() {
        let mut gate = Gate::default();
        gate.event(STARTED);
        gate.event(service("edge", &["203.0.113.80"]));
        gate.event(COMPLETED);

        assert_eq!(gate.event(STARTED), [STARTED]);
        assert_eq!(gate.event(COMPLETED), [COMPLETED]);
        assert!(gate.claimed().is_empty(), "it was not in the new list");
    }

    #[test]
    fn service_that_cannot_be_read_keeps_its_claims_and_stays_held() {
        let mut gate = Gate::default();
        gate.event(STARTED);
        gate.event(service("edge", &["203.0.113.80"]));
        let edge = ObjectRef {
            kind: Kind::Service,
            namespace: String::new(),
            name: "edge".into(),
        };
        let unreadable = Event::Unreadable(edge.into());

        gate.event(STARTED);
        assert_eq!(gate.event(unreadable.clone()), [unreadable]);
        assert_eq!(gate.event(COMPLETED), []);

        assert_eq!(gate.claimed(), addresses(&["203.0.113.80"]));
        assert_eq!(
            gate.checked(found(&["203.0.113.80"], &[])),
            [service("edge", &["203.0.113.80"]), COMPLETED]
        );
    }

    #[test]
    fn claim_is_read_as_the_cluster_reads_it() {
        let written = [
            " 192.0.2.66",
            "192.0.2.067",
            "::ffff:192.0.2.68",
            "fe80::1%eth0",
        ];
        let mut gate = Gate::default();

        gate.event(service("edge", &written));

        let meant = ["192.0.2.66", "192.0.2.67", "192.0.2.68"];
        assert_eq!(gate.claimed(), addresses(&meant));
    }

    #[test]
    fn what_a_load_balancer_proxies_itself_is_no_claim() {
        let mut object = Service::default();
        object.status.load_balancer.ingress = ["VIP", "Proxy"]
            .iter()
            .zip(["203.0.113.80", "203.0.113.81"])
            .map(|(mode, ip)| kube_ipvs_core::k8s::LoadBalancerIngress {
                ip: Some(ip.into()),
                ip_mode: Some((*mode).into()),
            })
            .collect();

        assert_eq!(claims(&object), addresses(&["203.0.113.80"]));
    }
}

//! What is known of a Service, for those who ask why it is served so, or not at
//! all. Costs as much as that one Service is big, up to a bound.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Cluster;
use super::objects::Entry;
use crate::compile::liveliness;
use crate::names::ServiceName;
use crate::services::{Service, ServiceType};
use crate::slices::Endpoint;
use crate::state::{Family, Protocol, VirtualServerKey};

/// What is known of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `namespace/name`.
    pub service: String,
    /// `spec.type`; `ClusterIP` when it has none.
    pub kind: String,
    /// Why nothing of it is served, if so.
    pub unserved: Option<Unserved>,
    /// Its ports, without those that make no sense: the warnings name these.
    pub ports: Vec<PortAccount>,
    /// The fronts and marks that it asks for, held or lost.
    pub fronts: Vec<FrontAccount>,
    /// What is wrong with it and its slices.
    pub warnings: Vec<String>,
    /// `internalTrafficPolicy` is `Local`: that of ClusterIPs.
    #[serde(default)]
    pub internal_local: bool,
    /// `externalTrafficPolicy` is `Local`: that of all other fronts.
    #[serde(default)]
    pub external_local: bool,
}

/// Why nothing of a Service is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "of")]
pub enum Unserved {
    /// It is a name for another name.
    ExternalName,
    /// Its label `service.kubernetes.io/service-proxy-name` is another
    /// proxier's, an empty one too; none when it has none and this proxier
    /// serves labelled ones.
    OtherProxy(Option<String>),
    /// `clusterIP: None`.
    Headless,
    /// It has no port that makes sense.
    NoPorts,
    /// It has no address at which this node could serve it.
    NoAddress,
}

/// A port with the endpoints that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAccount {
    /// Name; empty when it has none.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the Service.
    pub port: u16,
    /// Port on the nodes.
    pub node_port: Option<u16>,
    /// Endpoints of IPv4.
    pub v4: EndpointCounts,
    /// Endpoints of IPv6.
    pub v6: EndpointCounts,
    /// There are more endpoints than were counted.
    #[serde(default)]
    pub more: bool,
}

impl PortAccount {
    /// The endpoints to which traffic of a family can go.
    pub fn of(&self, family: Family) -> &EndpointCounts {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// Endpoints of one family, each address once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// All of them.
    pub endpoints: usize,
    /// Those that take new connections.
    pub ready: usize,
    /// Those of the ready ones that are on this node.
    pub ready_here: usize,
    /// Those that are terminating and still serve.
    pub leaving: usize,
    /// Those of the leaving ones that are on this node.
    #[serde(default)]
    pub leaving_here: usize,
}

/// Endpoints and ports of slices that are looked at for one account.
const LOOKS: usize = 1 << 18;

/// A front or mark that a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontAccount {
    /// Address, port and protocol; or the mark.
    pub key: VirtualServerKey,
    /// Name of the Service port, where it holds the front.
    pub port: Option<String>,
    /// `ClusterIP`, `LoadBalancer`, ...; where it holds the front.
    pub kind: Option<String>,
    /// The Service that goes before and has it.
    pub lost_to: Option<String>,
}

impl Cluster {
    /// What is known of a Service, as of the last [`Self::compile`]; none when
    /// there is no such Service.
    pub fn account(&self, name: &ServiceName) -> Option<Account> {
        let entry = self.entries.get(name)?;
        let service = entry.service.as_ref()?;
        let claims = entry.footprint.stake.claims.iter();
        let outdated = self.outdated(|object| self.is_of(object, name));
        let warnings = outdated.chain(entry.footprint.warnings.iter().cloned());
        Some(Account {
            service: name.to_string(),
            kind: service.kind.name().to_owned(),
            unserved: self.unserved(service, entry),
            ports: ports(service, entry),
            fronts: claims.map(|key| self.front_account(name, key)).collect(),
            warnings: warnings.map(|warning| warning.to_string()).collect(),
            internal_local: service.internal_local,
            external_local: service.external_local,
        })
    }

    fn unserved(&self, service: &Service, entry: &Entry) -> Option<Unserved> {
        let label = service.proxy.as_deref();
        if service.kind == ServiceType::ExternalName {
            return Some(Unserved::ExternalName);
        }
        if label != self.options.service_proxy_name.as_deref() {
            return Some(Unserved::OtherProxy(label.map(ToOwned::to_owned)));
        }
        // What has not been compiled yet asks for nothing yet.
        if !entry.footprint.stake.claims.is_empty() || self.is_dirty() {
            return None;
        }
        Some(if service.is_headless {
            Unserved::Headless
        } else if service.ports.is_empty() {
            Unserved::NoPorts
        } else {
            Unserved::NoAddress
        })
    }

    fn front_account(&self, name: &ServiceName, key: &VirtualServerKey) -> FrontAccount {
        let served = self.placement.served(key);
        let held = served.filter(|served| served.service == *name);
        let owner = self.claims.owner(key).filter(|owner| *owner != name);
        FrontAccount {
            key: *key,
            port: held.map(|served| served.port.to_string()),
            kind: held.map(|served| served.kind.to_string()),
            lost_to: owner.map(ToString::to_string),
        }
    }
}

fn ports(service: &Service, entry: &Entry) -> Vec<PortAccount> {
    let mut looks = LOOKS;
    let ports = named_ports(service);
    ports.map(|port| counted(port, entry, &mut looks)).collect()
}

/// The ports that make sense, without their endpoints.
fn named_ports(service: &Service) -> impl Iterator<Item = PortAccount> {
    service.ports.iter().map(|port| PortAccount {
        name: port.name.to_string(),
        protocol: port.protocol,
        port: port.number,
        node_port: port.node_port,
        v4: EndpointCounts::default(),
        v6: EndpointCounts::default(),
        more: false,
    })
}

/// The liveliest of each address, as when it is compiled.
fn counted(port: PortAccount, entry: &Entry, looks: &mut usize) -> PortAccount {
    let mut found: BTreeMap<IpAddr, &Endpoint> = BTreeMap::new();
    let mut more = false;
    for slice in entry.slices.values() {
        let Some(left) = looks.checked_sub(1 + slice.endpoints.len()) else {
            more = true;
            break;
        };
        *looks = left;
        if slice.numbers(&port.name, port.protocol).next().is_none() {
            continue;
        }
        for endpoint in &slice.endpoints {
            let known = found.entry(endpoint.address).or_insert(endpoint);
            if liveliness(endpoint) > liveliness(known) {
                *known = endpoint;
            }
        }
    }
    let counts = |family| {
        let its = || {
            found
                .values()
                .filter(move |e| Family::of(e.address) == family)
        };
        let leaving = || its().filter(|e| !e.ready && e.serving && e.terminating);
        EndpointCounts {
            endpoints: its().count(),
            ready: its().filter(|e| e.ready).count(),
            ready_here: its().filter(|e| e.ready && e.local).count(),
            leaving: leaving().count(),
            leaving_here: leaving().filter(|e| e.local).count(),
        }
    };
    PortAccount {
        v4: counts(Family::V4),
        v6: counts(Family::V6),
        more,
        ..port
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::event::{Event, Kind, ObjectRef};
    use crate::fixtures::*;
    use crate::k8s::SERVICE_PROXY_NAME_LABEL;

    fn account(cluster: &mut Cluster, name: &str) -> Account {
        cluster.compile();
        let name = ServiceName::new("default", name);
        cluster.account(&name).expect("a Service")
    }

    #[test]
    fn a_service_is_told_with_its_endpoints_and_fronts() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(
            &web(),
            [
                ep("10.244.1.7").here(),
                ep("10.244.1.8"),
                ep("10.244.1.9").not_ready(),
                ep("10.244.1.10").terminating(),
                ep("10.244.1.11").terminating().here(),
                ep("10.244.1.12").terminating(),
            ],
        );

        let told = account(&mut cluster, "web");

        let [port] = &told.ports[..] else {
            panic!("one port: {told:?}")
        };
        let counts = EndpointCounts {
            endpoints: 6,
            ready: 2,
            ready_here: 1,
            leaving: 3,
            leaving_here: 1,
        };
        assert_eq!(*port.of(Family::V4), counts);
        assert_eq!(port.of(Family::V6), &EndpointCounts::default());
        let [front] = &told.fronts[..] else {
            panic!("one front: {told:?}")
        };
        assert_eq!(front.key.to_string(), "10.96.0.1:80/TCP");
        assert_eq!(front.kind.as_deref(), Some("ClusterIP"));
        assert_eq!((&told.unserved, &front.lost_to), (&None, &None));
        assert_eq!(cluster.account(&ServiceName::new("default", "wed")), None);
    }

    #[test]
    fn of_an_endpoint_in_two_slices_the_liveliest_counts_as_it_does_for_the_kernel() {
        let stale = ep("10.244.1.7").terminating();
        let mut fresh = stale.clone();
        fresh.conditions.terminating = Some(false);
        for (first, then) in [(stale.clone(), fresh.clone()), (fresh, stale)] {
            let mut cluster = cluster();
            cluster.add(web()).endpoints(&web(), [first]);
            cluster.add(slice(&web(), [then]).named("web-2"));
            let told = account(&mut cluster, "web");
            let EndpointCounts {
                endpoints, leaving, ..
            } = told.ports[0].v4;
            assert_eq!((endpoints, leaving), (1, 0));
        }
    }

    #[test]
    fn what_is_not_compiled_yet_is_not_said_to_be_unserved() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
        let name = ServiceName::new("default", "web");
        let told = |cluster: &Cluster| cluster.account(&name).expect("a Service").unserved;
        assert!(cluster.is_dirty());
        assert_eq!(told(&cluster), None);
        cluster.compile();
        assert_eq!(told(&cluster), None);
    }

    #[test]
    fn of_a_great_many_endpoints_a_part_is_counted() {
        let mut cluster = cluster();
        let many: [_; 250] = core::array::from_fn(|n| ep(&format!("10.244.0.{}", n + 1)));
        cluster.add(web()).endpoints(&web(), many);
        let told = account(&mut cluster, "web");
        let port = &told.ports[0];
        assert_eq!((port.v4.endpoints, port.more), (250, false));

        let entry = &cluster.entries[&ServiceName::new("default", "web")];
        let mut looks = 250;
        let part = counted(port.clone(), entry, &mut looks);
        assert_eq!((part.v4.endpoints, part.more), (0, true));
        assert_eq!(looks, 250, "no slice is looked at in part");
    }

    #[test]
    fn what_is_not_served_is_told_why() {
        let mut cluster = cluster();
        let named = |name: &str, ip: &str| service(name, ip);
        cluster.add(named("alias", "10.96.0.2").with(|service| {
            service.spec.type_ = Some("ExternalName".into());
        }));
        cluster.add(named("theirs", "10.96.0.3").with(|service| {
            let label = SERVICE_PROXY_NAME_LABEL.to_owned();
            service.metadata.labels.insert(label, "cilium".into());
        }));
        cluster.add(named("nobodys", "10.96.0.4").with(|service| {
            let label = SERVICE_PROXY_NAME_LABEL.to_owned();
            service.metadata.labels.insert(label, String::new());
        }));
        cluster.add(bare("headless", &["None"]));
        cluster.add(bare("fresh", &[]).port("", "TCP", 80));
        cluster.add(named("portless", "10.96.0.5").with(|service| service.spec.ports.clear()));

        let mut why = |name: &str| account(&mut cluster, name).unserved;

        assert_eq!(why("alias"), Some(Unserved::ExternalName));
        let label = |value: &str| Some(Unserved::OtherProxy(Some(value.into())));
        assert_eq!(why("theirs"), label("cilium"));
        assert_eq!(why("nobodys"), label(""));
        assert_eq!(why("portless"), Some(Unserved::NoPorts));
        assert_eq!(why("headless"), Some(Unserved::Headless));
        assert_eq!(why("fresh"), Some(Unserved::NoAddress));
    }

    /// It serves on as it was, and who asks is told that it is not as it is now.
    #[test]
    fn what_cannot_be_read_any_more_is_told_until_it_can_or_is_gone() {
        let mut cluster = cluster();
        cluster.add(web()).endpoints(&web(), [ep("10.244.1.7")]);
        let slice = cluster.slice_owners.keys().next().expect("one").clone();
        let of = |kind, name: &str| ObjectRef {
            kind,
            namespace: "default".to_owned(),
            name: name.to_owned(),
        };
        let its_slice = of(Kind::EndpointSlice, &slice.name);
        let told = |cluster: &mut Cluster| account(cluster, "web").warnings;
        let said = |object: &str| {
            format!("{object}: it cannot be read any more; what it was before stays in force")
        };
        assert_eq!(told(&mut cluster), [""; 0]);

        cluster.apply(Event::Unreadable(of(Kind::Service, "web").into()));
        cluster.apply(Event::Unreadable(its_slice.clone().into()));
        let both = [
            said("Service default/web"),
            said(&format!("EndpointSlice default/{}", slice.name)),
        ];
        assert_eq!(told(&mut cluster), both);
        assert_eq!(cluster.warnings().len(), 2);

        cluster.add(web());
        assert_eq!(told(&mut cluster), both[1..]);
        cluster.apply(Event::Delete(its_slice));
        assert_eq!(told(&mut cluster), [""; 0]);
        assert_eq!(cluster.warnings(), []);
    }

    #[test]
    fn a_front_lost_to_another_names_it() {
        let mut cluster = cluster();
        let first = service("first", "10.96.0.2").load_balancer("203.0.113.9");
        let then = service("then", "10.96.0.3").load_balancer("203.0.113.9");
        cluster.add(first.created("2026-01-01T00:00:00Z"));
        cluster.add(then.created("2026-02-01T00:00:00Z"));

        let told = account(&mut cluster, "then");

        let lost: Vec<_> = told
            .fronts
            .iter()
            .filter_map(|front| front.lost_to.as_deref())
            .collect();
        assert_eq!(lost, ["default/first"]);
        assert_eq!(told.unserved, None);
    }
}

//! Between our words and the kernel's: virtual servers and services, real
//! servers and destinations, elements and their text.

use std::collections::BTreeSet;

use ipvs_netlink as ipvs;
use kube_ipvs_core::plan::Settings;
use kube_ipvs_core::state::{
    Family, Flags, Front, NftElement, NftSet, NftState, Persistence, Ports, Protocol, RealServer,
    RealServerKey, VirtualServer, VirtualServerKey,
};
use kube_ipvs_nft as nft;
use nix::errno::Errno;

/// The kernel's name for a virtual server.
pub(crate) fn service_id(key: &VirtualServerKey) -> ipvs::ServiceId {
    match *key {
        VirtualServerKey::Front(Front {
            address,
            port,
            protocol,
        }) => {
            let protocol = match protocol {
                Protocol::Tcp => ipvs::Protocol::Tcp,
                Protocol::Udp => ipvs::Protocol::Udp,
                Protocol::Sctp => ipvs::Protocol::Sctp,
            };
            ipvs::ServiceId::address(address, port, protocol)
        }
        VirtualServerKey::Mark { mark, family } => {
            ipvs::ServiceId::fwmark(mark, ipvs_family(family))
        }
    }
}

/// Ours for the kernel's name. None for a protocol that no Service has: such a
/// service is foreign by nature.
pub(crate) fn key(id: &ipvs::ServiceId) -> Option<VirtualServerKey> {
    Some(match *id {
        ipvs::ServiceId::Address {
            address,
            port,
            protocol,
        } => {
            let protocol = match protocol {
                ipvs::Protocol::Tcp => Protocol::Tcp,
                ipvs::Protocol::Udp => Protocol::Udp,
                ipvs::Protocol::Sctp => Protocol::Sctp,
                ipvs::Protocol::Other(_) => return None,
            };
            VirtualServerKey::Front(Front {
                address,
                port,
                protocol,
            })
        }
        ipvs::ServiceId::Fwmark { mark, family } => {
            let family = match family {
                ipvs::Family::V4 => Family::V4,
                ipvs::Family::V6 => Family::V6,
            };
            VirtualServerKey::Mark { mark, family }
        }
    })
}

fn ipvs_family(family: Family) -> ipvs::Family {
    match family {
        Family::V4 => ipvs::Family::V4,
        Family::V6 => ipvs::Family::V6,
    }
}

/// A service as `ipvsadm -A` would make it.
pub(super) fn service(key: &VirtualServerKey, settings: &Settings) -> ipvs::Service {
    let scheduler = ipvs::Scheduler::from(settings.scheduler.as_str());
    let mut flags = ipvs::ServiceFlags::empty();
    flags.set(ipvs::ServiceFlags::ONE_PACKET, settings.flags.one_packet);
    flags.set(ipvs::ServiceFlags::SCHED1, settings.flags.fallback);
    flags.set(ipvs::ServiceFlags::SCHED2, settings.flags.port);
    let service = ipvs::Service::new(service_id(key), scheduler).with_flags(flags);
    match settings.persistence {
        Some(Persistence { timeout, prefix }) => {
            let netmask = ipvs::Netmask::from_prefix(ipvs_family(key.family()), prefix);
            service.persistent(timeout, netmask)
        }
        None => service,
    }
}

/// A virtual server, without real servers, for what the kernel reported.
pub(crate) fn virtual_server(service: &ipvs::Service) -> VirtualServer {
    let has = |flag| service.flags.contains(flag);
    let hashes = matches!(service.scheduler.as_str(), "sh" | "mh");
    let persistence = has(ipvs::ServiceFlags::PERSISTENT).then(|| Persistence {
        timeout: service.timeout,
        // A mask with holes is nobody's prefix: it differs from any that we want.
        prefix: service.netmask.prefix().unwrap_or(0),
    });
    VirtualServer {
        scheduler: service.scheduler.as_str().to_owned(),
        flags: Flags {
            one_packet: has(ipvs::ServiceFlags::ONE_PACKET),
            fallback: hashes && has(ipvs::ServiceFlags::SCHED1),
            port: hashes && has(ipvs::ServiceFlags::SCHED2),
        },
        persistence,
        real_servers: Default::default(),
    }
}

/// A destination as `ipvsadm -a -m` would make it.
pub(super) fn destination(key: &RealServerKey, server: &RealServer) -> ipvs::Destination {
    let id = destination_id(key);
    ipvs::Destination {
        forwarding: ipvs::ForwardingMethod::Masquerade,
        weight: server.weight,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
        ..ipvs::Destination::new(id)
    }
}

pub(super) fn destination_id(key: &RealServerKey) -> ipvs::DestinationId {
    ipvs::DestinationId::new(key.address, key.port)
}

/// A real server for what the kernel reported.
///
/// One that somebody made with another forwarding method gets a weight that
/// nobody wants, so that it differs and is edited back.
pub(super) fn real_server(destination: &ipvs::Destination) -> (RealServerKey, RealServer) {
    let key = RealServerKey {
        address: destination.id.address,
        port: destination.id.port,
    };
    let masquerade = matches!(
        destination.forwarding,
        // The kernel calls an address of this host local, however it was added.
        ipvs::ForwardingMethod::Masquerade | ipvs::ForwardingMethod::Local
    );
    let server = RealServer {
        weight: if masquerade {
            destination.weight
        } else {
            u32::MAX
        },
        upper_threshold: destination.upper_threshold,
        lower_threshold: destination.lower_threshold,
    };
    (key, server)
}

/// What was asked for is not there: ESRCH for a service, ENOENT for a destination.
pub(crate) fn is_not_found(error: &ipvs::Error) -> bool {
    matches!(error.errno(), Some(Errno::ESRCH | Errno::ENOENT))
}

/// The table's set for ours.
pub(crate) fn set(set: NftSet) -> nft::Set {
    match set {
        NftSet::Vips => nft::Set::Vips,
        NftSet::ServicePorts => nft::Set::ServicePorts,
        NftSet::Reject => nft::Set::Reject,
        NftSet::DropOutside => nft::Set::DropOutside,
        NftSet::Masquerade => nft::Set::Masquerade,
        NftSet::MasqueradeOffCluster => nft::Set::MasqueradeOffCluster,
        NftSet::InsideMarks => nft::Set::InsideMarks,
        NftSet::NodePortMarks => nft::Set::NodePortMarks,
        NftSet::Hairpin => nft::Set::Hairpin,
        NftSet::Restricted => nft::Set::Restricted,
        NftSet::AllowedSources => nft::Set::AllowedSources,
        NftSet::ServiceCidrs => nft::Set::ServiceCidrs,
    }
}

/// The elements of one family as the table's text.
pub(super) fn elements(state: &NftState, family: Family) -> nft::Elements {
    let mut elements = nft::Elements::new();
    for (name, members) in state {
        let texts: BTreeSet<String> = members
            .iter()
            .filter(|element| element.family() == family)
            .map(NftElement::to_string)
            .collect();
        if !texts.is_empty() {
            elements.insert(set(*name), texts);
        }
    }
    elements
}

/// The table's family for ours.
pub(super) fn table_family(family: Family) -> nft::Family {
    match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    }
}

/// Reads elements back. What is not one of ours is told, so that it can be
/// removed by rebuilding the table.
pub(super) fn read_elements(elements: &nft::Elements, into: &mut NftState) -> bool {
    let mut understood = true;
    for name in NftSet::ALL {
        for text in elements.get(&set(name)).into_iter().flatten() {
            match element(name, text) {
                Some(element) => {
                    into.entry(name).or_default().insert(element);
                }
                None => understood = false,
            }
        }
    }
    understood
}

fn element(set: NftSet, text: &str) -> Option<NftElement> {
    match set {
        NftSet::Vips | NftSet::Hairpin => text.parse().ok().map(NftElement::Address),
        NftSet::ServiceCidrs => text.parse().ok().map(NftElement::Network),
        NftSet::InsideMarks | NftSet::NodePortMarks => {
            let (at, mark) = text.split_once(" : ")?;
            let mark = u32::from_str_radix(mark.strip_prefix("0x")?, 16).ok()?;
            Some(NftElement::Mark(front(at)?, mark))
        }
        NftSet::AllowedSources => {
            let (at, net) = text.rsplit_once(" . ")?;
            Some(NftElement::Source(ports(at)?, net.parse().ok()?))
        }
        _ => front(text).map(NftElement::Front),
    }
}

fn ports(text: &str) -> Option<Ports> {
    let (start, last) = match text.rsplit_once('-') {
        Some((start, last)) => (start, Some(last.parse().ok()?)),
        None => (text, None),
    };
    let ports = Ports::from(front(start)?);
    Some(Ports {
        last: last.unwrap_or(ports.first),
        ..ports
    })
}

fn front(text: &str) -> Option<Front> {
    let mut parts = text.split(" . ");
    let front = Front {
        address: parts.next()?.parse().ok()?,
        protocol: parts.next()?.parse().ok()?,
        port: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_through_the_kernels_words() {
        let key: VirtualServerKey = "[fd00::a]:53/UDP".parse().unwrap();
        let settings = Settings {
            scheduler: "mh".to_owned(),
            flags: Flags {
                one_packet: true,
                fallback: true,
                port: false,
            },
            persistence: Some(Persistence {
                timeout: 100,
                prefix: 64,
            }),
        };
        let service = service(&key, &settings);
        assert_eq!(super::key(&service.id), Some(key));
        assert_eq!(Settings::of(&virtual_server(&service)), settings);
    }

    #[test]
    fn elements_survive_the_way_through_text() {
        let at: Front = "10.96.0.10:53/SCTP".parse().unwrap();
        let state = NftState::from([
            (
                NftSet::Vips,
                BTreeSet::from([NftElement::Address(at.address)]),
            ),
            (NftSet::Reject, BTreeSet::from([NftElement::Front(at)])),
            (
                NftSet::InsideMarks,
                BTreeSet::from([NftElement::Mark(at, 0x1234)]),
            ),
            (
                NftSet::AllowedSources,
                BTreeSet::from([
                    NftElement::Source(at.into(), "192.0.2.0/24".parse().unwrap()),
                    NftElement::Source(
                        Ports {
                            last: 90,
                            ..at.into()
                        },
                        "198.51.100.0/24".parse().unwrap(),
                    ),
                ]),
            ),
        ]);
        let mut read = NftState::new();
        assert!(read_elements(&elements(&state, Family::V4), &mut read));
        assert_eq!(read, state);
        assert!(elements(&state, Family::V6).is_empty());
    }

    #[test]
    fn another_forwarding_method_is_a_difference() {
        let key: RealServerKey = "10.244.0.5:80".parse().unwrap();
        let wanted = RealServer {
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let mut seen = destination(&key, &wanted);
        assert_eq!(real_server(&seen), (key, wanted));
        seen.forwarding = ipvs::ForwardingMethod::Tunnel;
        assert_ne!(real_server(&seen), (key, wanted));
    }
}

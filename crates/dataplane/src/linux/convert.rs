//! Between our words and the kernel's: virtual servers and services, real
//! servers and destinations.

use ipvs_netlink as ipvs;
use kube_ipvs_core::plan::ServerSettings;
use kube_ipvs_core::state::{
    Family, Flags, Front, Persistence, Protocol, RealServer, RealServerKey, VirtualServer,
    VirtualServerKey,
};
use kube_ipvs_nft as nft;
use nix::errno::Errno;

/// The kernel's name for a virtual server.
pub fn service_id(key: &VirtualServerKey) -> ipvs::ServiceId {
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
pub fn key(id: &ipvs::ServiceId) -> Option<VirtualServerKey> {
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
pub(super) fn service(key: &VirtualServerKey, settings: &ServerSettings) -> ipvs::Service {
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
pub fn virtual_server(service: &ipvs::ServiceSettings<'_>) -> VirtualServer {
    let has = |flag| service.flags.contains(flag);
    let hashes = matches!(&*service.scheduler, "sh" | "mh");
    let persistence = has(ipvs::ServiceFlags::PERSISTENT).then(|| Persistence {
        timeout: service.timeout,
        // A mask with holes is nobody's prefix: it differs from any that we want.
        prefix: service.netmask.prefix().unwrap_or(0),
    });
    VirtualServer {
        scheduler: (&*service.scheduler).into(),
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
pub(super) fn real_server(destination: &ipvs::DestinationSettings) -> (RealServerKey, RealServer) {
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

/// What was asked for is not there: ESRCH for a service, ENOENT for a destination,
/// EAFNOSUPPORT for anything of IPv6 in a kernel whose IPVS has none.
pub fn is_not_found(error: &ipvs::Error) -> bool {
    let errno = error.errno();
    matches!(
        errno,
        Some(Errno::ESRCH | Errno::ENOENT | Errno::EAFNOSUPPORT)
    )
}

/// The table's family for ours.
pub(super) fn table_family(family: Family) -> nft::Family {
    match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONFIG_IP_VS_IPV6 may be off though the host has IPv6: such a kernel refuses
    /// the question, and what is recorded and was never made is asked for.
    #[test]
    fn a_kernel_without_a_family_has_nothing_of_it() {
        let is_not_found = |errno| {
            is_not_found(&ipvs::Error::Refused {
                operation: ipvs::Operation::ListServices,
                errno,
                message: None,
            })
        };
        for errno in [Errno::ESRCH, Errno::ENOENT, Errno::EAFNOSUPPORT] {
            assert!(is_not_found(errno), "{errno}");
        }
        for errno in [Errno::EPERM, Errno::EINVAL, Errno::ENOMEM] {
            assert!(!is_not_found(errno), "{errno}");
        }
    }

    #[test]
    fn settings_survive_the_way_through_the_kernels_words() {
        let key: VirtualServerKey = "[fd00::a]:53/UDP".parse().unwrap();
        let settings = ServerSettings {
            scheduler: "mh".into(),
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
        assert_eq!(
            ServerSettings::of(&virtual_server(&service.settings())),
            settings
        );
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
        assert_eq!(real_server(&seen.settings()), (key, wanted));
        seen.forwarding = ipvs::ForwardingMethod::Tunnel;
        assert_ne!(real_server(&seen.settings()), (key, wanted));
    }
}

//! What was said to a real kernel when the captures were made, and is said
//! again to the replay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

pub(super) fn web() -> ServiceId {
    ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 10), 80)
}

pub(super) fn web6() -> ServiceId {
    ServiceId::tcp(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa), 443)
}

pub(super) fn mark6() -> ServiceId {
    ServiceId::fwmark(7, Family::V6)
}

pub(super) fn sip() -> ServiceId {
    ServiceId::udp(Ipv4Addr::new(10, 96, 0, 10), 5060)
}

pub(super) fn endpoint(last: u8, port: u16) -> DestinationId {
    DestinationId::new(Ipv4Addr::new(10, 244, 1, last), port)
}

pub(super) fn endpoint6(last: u16, port: u16) -> DestinationId {
    DestinationId::new(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last), port)
}

/// Every kind of service, as this crate writes it.
pub(super) fn services() -> Vec<Service> {
    let mut sip = Service::new(sip(), Scheduler::RR)
        .persistent(360, Netmask::from_prefix(Family::V4, 24))
        .with_flags(ServiceFlags::ONE_PACKET);
    sip.pe_name = Some("sip".to_owned());
    vec![
        Service::new(web(), Scheduler::WRR),
        Service::new(web6(), Scheduler::MH)
            .persistent(300, Netmask::from_prefix(Family::V6, 64))
            .with_flags(ServiceFlags::MH_FALLBACK | ServiceFlags::MH_PORT),
        Service::new(mark6(), Scheduler::SH).with_flags(ServiceFlags::SH_PORT),
        sip,
    ]
}

/// Every kind of destination, with its service.
pub(super) fn destinations() -> Vec<(ServiceId, Destination)> {
    let tunnel = |id, tunnel| Destination {
        forwarding: ForwardingMethod::Tunnel,
        tunnel,
        ..Destination::new(id)
    };
    let limited = Destination {
        weight: 5,
        upper_threshold: 100,
        lower_threshold: 80,
        ..Destination::new(endpoint(7, 8080))
    };
    let routed = Destination {
        forwarding: ForwardingMethod::DirectRoute,
        weight: 0,
        ..Destination::new(endpoint(8, 80))
    };
    let gue = Tunnel::gue(6080, TunnelFlags::CHECKSUM);
    vec![
        (web(), limited),
        (web(), routed),
        (web(), tunnel(endpoint(9, 80), gue)),
        (
            web(),
            tunnel(endpoint(10, 80), Tunnel::gre(TunnelFlags::CHECKSUM)),
        ),
        (web6(), Destination::new(endpoint6(7, 8443))),
        (web6(), tunnel(endpoint(9, 443), Tunnel::IPIP)),
    ]
}

/// One request at a time, all of them taken; then look.
pub(super) fn one_by_one(client: &mut Client) -> Result<(Vec<Service>, Vec<Destination>), Error> {
    for service in services() {
        client.add_service(&service)?;
    }
    for (service, destination) in destinations() {
        client.add_destination(&service, &destination)?;
    }
    let seen = client.services()?;
    let mut servers = client.destinations(&web())?;
    servers.extend(client.destinations(&web6())?);
    servers.extend(client.destinations(&sip())?);
    Ok((seen, servers))
}

/// Change, look, and remove what `one_by_one` made.
pub(super) fn change_and_remove(client: &mut Client) -> Result<(Service, Vec<Destination>), Error> {
    client.edit_service(&Service::new(web(), Scheduler::LC))?;
    client.edit_destination(&web(), &Destination::new(endpoint(7, 8080)))?;
    client.remove_destination(&web(), &endpoint(8, 80))?;
    client.remove_destination(&web6(), &endpoint(9, 443))?;
    client.zero(Some(&web()))?;
    client.zero(None)?;
    let service = client.service(&web())?;
    let destinations = client.destinations(&web())?;
    client.remove_service(&mark6())?;
    client.flush()?;
    Ok((service, destinations))
}

/// Requests of which some are refused.
pub(super) fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.push(Request::AddService(Service::new(web(), Scheduler::RR)));
    batch.push(Request::AddService(Service::new(web(), Scheduler::RR)));
    batch.push(Request::AddDestination(
        web(),
        Destination::new(endpoint(7, 8080)),
    ));
    batch.push(Request::AddDestination(
        web6(),
        Destination::new(endpoint6(7, 8443)),
    ));
    batch.push(Request::EditDestination(
        web(),
        Destination::new(endpoint(8, 80)),
    ));
    batch.push(Request::AddService(Service::new(web6(), "nosuch".into())));
    batch.push(Request::RemoveService(web()));
    batch.push(Request::RemoveService(web()));
    batch
}

/// Time-outs, version, daemons.
pub(super) fn settings(
    client: &mut Client,
) -> Result<(Timeouts, Info, Vec<Daemon>, Vec<Daemon>), Error> {
    client.set_timeouts(&Timeouts {
        tcp: 600,
        tcp_fin: 0,
        udp: 200,
    })?;
    let timeouts = client.timeouts()?;
    let info = client.info()?;
    client.start_daemon(&Daemon::new(DaemonState::Master, "lo", 7))?;
    client.start_daemon(&Daemon {
        sync_maxlen: 1000,
        group: Some(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 90))),
        port: 9000,
        ttl: 3,
        ..Daemon::new(DaemonState::Backup, "lo", 8)
    })?;
    let running = client.daemons()?;
    client.stop_daemon(DaemonState::Master)?;
    client.stop_daemon(DaemonState::Backup)?;
    let stopped = client.daemons()?;
    Ok((timeouts, info, running, stopped))
}

/// Requests the kernel refuses, one by one.
pub(super) fn refusals(client: &mut Client) -> Vec<Error> {
    let web = web();
    [
        client.service(&web).map(drop),
        client.destinations(&web).map(drop),
        client.remove_service(&web),
        client.add_destination(&web, &Destination::new(endpoint(7, 80))),
        client.stop_daemon(DaemonState::Master),
        client.start_daemon(&Daemon::new(DaemonState::Master, "nosuch0", 0)),
        client.add_service(&Service::new(
            web,
            "a-scheduler-with-far-too-long-a-name".into(),
        )),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

//! Bytes of a real kernel, both ways.
//!
//! The captures were taken from a guest with `strace` while the code of
//! `stories.rs` ran in it, and from `ipvsadm` 1.31.

use super::replay::{Replay, datagrams};
use super::stories::*;
use super::*;
use crate::constants::*;
use crate::wire::read_attributes;

fn client(capture: &str) -> Client {
    fake::over(Replay::of(capture)).expect("captures start with the family")
}

/// What the kernel makes of a service.
fn seen(mut service: Service) -> Service {
    service.flags |= ServiceFlags::HASHED;
    service
}

#[test]
fn services_and_destinations_come_back_as_they_were_written() {
    let mut client = client(include_str!("captures/one_by_one.txt"));
    let (services, mut destinations) = one_by_one(&mut client).expect("all were taken");

    let mut expected: Vec<_> = stories::services().into_iter().map(seen).collect();
    expected.sort_by_key(|service| service.id);
    let mut services = services;
    services.sort_by_key(|service| service.id);
    assert_eq!(services, expected);

    let mut expected: Vec<_> = stories::destinations()
        .into_iter()
        .map(|(_, d)| d)
        .collect();
    expected.sort_by_key(|destination| destination.id);
    destinations.sort_by_key(|destination| destination.id);
    assert_eq!(destinations, expected);
}

#[test]
fn changes_and_removals_are_taken() {
    let mut client = client(include_str!("captures/change_and_remove.txt"));
    let (service, destinations) = change_and_remove(&mut client).expect("all were taken");

    assert_eq!(service, seen(Service::new(web(), Scheduler::LC)));
    let ids: Vec<_> = destinations.iter().map(|d| d.id).collect();
    assert_eq!(ids, [endpoint(10, 80), endpoint(9, 80), endpoint(7, 8080)]);
    assert_eq!(destinations[2], Destination::new(endpoint(7, 8080)));
}

#[test]
fn refused_members_of_a_batch_are_named() {
    let mut client = client(include_str!("captures/batch.txt"));
    let failed = client.apply(&batch()).expect("the kernel was heard");

    let told: Vec<_> = failed
        .iter()
        .map(|(index, error)| format!("{index} {error}"))
        .collect();
    assert_eq!(
        told,
        [
            "1 add virtual server 10.96.0.10:80/TCP with scheduler rr: service already exists (EEXIST)",
            "3 add real server [fd00:1::7]:8443 to [fd00::a]:443/TCP: no such service (ESRCH)",
            "4 change real server 10.244.1.8:80 of 10.96.0.10:80/TCP: no such destination (ENOENT)",
            "5 add virtual server [fd00::a]:443/TCP with scheduler nosuch: no such scheduler or persistence engine (ENOENT)",
            "7 remove virtual server 10.96.0.10:80/TCP: no such service (ESRCH)",
        ]
    );
}

#[test]
fn settings_and_daemons_come_back() {
    let mut client = client(include_str!("captures/settings.txt"));
    let (timeouts, info, running, stopped) = settings(&mut client).expect("all were taken");

    let expected = Timeouts {
        tcp: 600,
        tcp_fin: 120,
        udp: 200,
    };
    assert_eq!(timeouts, expected);
    assert_eq!(info.version.to_string(), "1.2.1");
    assert_eq!(info.conn_tab_size, 4096);
    let told: Vec<_> = running
        .iter()
        .map(|d| {
            let group = d.group.expect("the kernel fills in the group");
            (
                d.state,
                d.sync_id,
                d.sync_maxlen,
                group.to_string(),
                d.port,
                d.ttl,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                DaemonState::Master,
                7,
                1472,
                "224.0.0.81".to_owned(),
                8848,
                1
            ),
            (
                DaemonState::Backup,
                8,
                1024,
                "224.0.0.90".to_owned(),
                9000,
                3
            ),
        ]
    );
    assert_eq!(stopped, []);
}

#[test]
fn refusals_say_what_was_asked_and_why_not() {
    let mut client = client(include_str!("captures/refusals.txt"));
    let told: Vec<_> = refusals(&mut client).iter().map(Error::to_string).collect();

    assert_eq!(
        told,
        [
            "read virtual server 10.96.0.10:80/TCP: no such service (ESRCH)",
            "list real servers of 10.96.0.10:80/TCP: no such service (ESRCH)",
            "remove virtual server 10.96.0.10:80/TCP: no such service (ESRCH)",
            "add real server 10.244.1.7:80 to 10.96.0.10:80/TCP: no such service (ESRCH)",
            "stop master sync daemon: no such daemon runs (ESRCH)",
            "start master sync daemon on nosuch0: No such device (ENODEV)",
            "add virtual server 10.96.0.10:80/TCP with scheduler a-scheduler-with-far-too-long-a-name: Invalid argument (EINVAL)",
        ]
    );
}

/// The content of a nest in the message of a capture by its place.
fn nest_of(message: usize, kind: u16) -> Vec<u8> {
    let capture = include_str!("captures/ipvsadm.txt");
    let (_, bytes) = datagrams(capture).nth(message).expect("the capture has it");
    let mut nest = None;
    read_attributes(&bytes[20..], |attribute| {
        if attribute.kind() == kind {
            nest = Some(attribute.value().to_vec());
        }
        Ok(())
    })
    .expect("ipvsadm writes attributes");
    nest.expect("the message has the nest")
}

#[test]
fn services_of_ipvsadm_are_read() {
    let parse = |message| Service::parse(&nest_of(message, IPVS_CMD_ATTR_SERVICE)).expect("valid");
    let [_, mesh, _, sip] = <[Service; 4]>::try_from(stories::services()).expect("four");

    assert_eq!(parse(0), mesh);
    assert_eq!(
        parse(2),
        Service::new(ServiceId::fwmark(7, Family::V4), Scheduler::SH)
            .with_flags(ServiceFlags::SH_PORT)
    );
    assert_eq!(parse(3), sip);
}

#[test]
fn destinations_of_ipvsadm_are_read() {
    let parse = |message| {
        Destination::parse(&nest_of(message, IPVS_CMD_ATTR_DEST), Family::V6).expect("valid")
    };

    let limited = Destination {
        weight: 5,
        upper_threshold: 100,
        lower_threshold: 80,
        ..Destination::new(endpoint6(7, 8443))
    };
    assert_eq!(parse(1), limited);
    let mixed = Destination {
        forwarding: ForwardingMethod::Tunnel,
        tunnel: Tunnel::gue(6080, TunnelFlags::CHECKSUM),
        ..Destination::new(endpoint(9, 443))
    };
    assert_eq!(parse(4), mixed);
}

/// 32-bit stats of a kernel before 4.1, and 64-bit ones beside them.
#[test]
fn wide_stats_win_over_narrow_ones() {
    let counter = |value: &[u8]| {
        let mut nest = Vec::new();
        wire::Writer::new(&mut nest).bytes(IPVS_STATS_ATTR_CONNS, value);
        nest
    };
    let mut attributes = Vec::new();
    Service::new(web(), Scheduler::RR).emit(&mut attributes);
    let mut out = wire::Writer::new(&mut attributes);
    out.bytes(IPVS_SVC_ATTR_STATS, &counter(&7u32.to_ne_bytes()));
    let narrow = Service::parse(&attributes).expect("valid");
    assert_eq!(narrow.stats.connections, 7);

    let wide = (1u64 << 32) + 7;
    let mut out = wire::Writer::new(&mut attributes);
    out.bytes(IPVS_SVC_ATTR_STATS64, &counter(&wide.to_ne_bytes()));
    let both = Service::parse(&attributes).expect("valid");
    assert_eq!(both.stats.connections, wide);
}

#[test]
fn a_hashed_service_is_not_sent_as_hashed() {
    let plain = Service::new(web(), Scheduler::RR);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    plain.emit(&mut one);
    seen(plain).emit(&mut other);
    assert_eq!(one, other);
}

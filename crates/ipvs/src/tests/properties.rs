//! What holds for any input.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use proptest::collection::vec;
use proptest::prelude::*;

use super::fake;
use super::replay::datagrams;
use super::*;

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    prop_oneof![
        (any::<IpAddr>(), any::<u16>(), any::<u16>()).prop_map(|(address, port, protocol)| {
            ServiceId::address(address, port, protocol.into())
        }),
        (any::<u32>(), family()).prop_map(|(mark, family)| ServiceId::fwmark(mark, family)),
    ]
}

fn other() -> impl Strategy<Value = Vec<DefaultNla>> {
    let attribute = (64u16..0x3fff, vec(any::<u8>(), 0..40))
        .prop_map(|(kind, value)| DefaultNla::new(kind, value));
    vec(attribute, 0..4)
}

prop_compose! {
    fn service()(
        id in service_id(),
        scheduler in "[ -~]{1,15}",
        flags in any::<u32>(),
        mask in any::<u32>(),
        timeout in any::<u32>(),
        netmask in any::<u32>(),
        pe_name in proptest::option::of("[a-z]{0,15}"),
        other in other(),
    ) -> Service {
        let known = !ServiceFlags::HASHED;
        let netmask = match id.family() {
            Family::V4 => Netmask::V4(netmask.into()),
            Family::V6 => Netmask::V6(netmask),
        };
        Service {
            flags: ServiceFlags::from_bits_retain(flags) & known,
            flags_mask: ServiceFlags::from_bits_retain(mask) & known,
            timeout,
            netmask,
            pe_name,
            other,
            ..Service::new(id, scheduler.into())
        }
    }
}

prop_compose! {
    fn destination()(
        address in any::<IpAddr>(),
        port in any::<u16>(),
        forwarding in prop_oneof![0u32..8, any::<u32>()],
        weight in any::<u32>(),
        thresholds in any::<(u32, u32)>(),
        tunnel in any::<(u8, u16, u16)>(),
        other in other(),
    ) -> Destination {
        Destination {
            forwarding: forwarding.into(),
            weight,
            upper_threshold: thresholds.0,
            lower_threshold: thresholds.1,
            tunnel: Tunnel {
                kind: tunnel.0.into(),
                port: tunnel.1,
                flags: TunnelFlags::from_bits_retain(tunnel.2),
            },
            other,
            ..Destination::new(DestinationId::new(address, port))
        }
    }
}

prop_compose! {
    fn daemon()(
        state in any::<u32>(),
        interface in "[a-z0-9]{0,15}",
        numbers in any::<(u32, u16, u16, u8)>(),
        group in proptest::option::of(any::<IpAddr>()),
        other in other(),
    ) -> Daemon {
        let (sync_id, sync_maxlen, port, ttl) = numbers;
        Daemon {
            sync_maxlen,
            group: group.filter(|group| !group.is_unspecified()),
            port,
            ttl,
            other,
            ..Daemon::new(state.into(), interface, sync_id)
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        service in service(),
        destination in destination(),
        daemon in daemon(),
        default in family(),
    ) {
        let mut bytes = Vec::new();
        service.emit(&mut bytes);
        prop_assert_eq!(Service::parse(&bytes).expect("valid"), service);

        bytes.clear();
        destination.emit(&mut bytes);
        prop_assert_eq!(Destination::parse(&bytes, default).expect("valid"), destination);

        bytes.clear();
        daemon.emit(&mut bytes);
        prop_assert_eq!(Daemon::parse(&bytes).expect("valid"), daemon);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Service::parse(&bytes);
        let _ = Destination::parse(&bytes, Family::V4);
        let _ = Destination::parse(&bytes, Family::V6);
        let _ = Daemon::parse(&bytes);
        let _ = Stats::parse(&bytes);
        let _ = Timeouts::parse(&bytes);
        let _ = Info::parse(&bytes);
    }

    #[test]
    fn no_damage_to_attributes_makes_a_parser_panic(
        service in service(),
        destination in destination(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        service.emit(&mut bytes);
        *at.get_mut(&mut bytes) = byte;
        let _ = Service::parse(&bytes[..cut.index(bytes.len())]);
        let service = Service::parse(&bytes);
        let settings = ServiceSettings::parse(&bytes);
        if let Ok(service) = service {
            prop_assert_eq!(settings.ok(), Some(service.settings()));
        }

        bytes.clear();
        destination.emit(&mut bytes);
        *at.get_mut(&mut bytes) = byte;
        let _ = Destination::parse(&bytes[..cut.index(bytes.len())], Family::V6);
        let destination = Destination::parse(&bytes, Family::V6);
        let settings = DestinationSettings::parse(&bytes, Family::V6);
        if let Ok(destination) = destination {
            prop_assert_eq!(settings.ok(), Some(destination.settings()));
        }
    }

    /// An answer of a real kernel with one byte changed: an answer or an error,
    /// and always an end.
    #[test]
    fn no_damaged_answer_makes_the_client_panic(
        which in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let answers: Vec<_> = datagrams(include_str!("captures/one_by_one.txt"))
            .filter(|(direction, _)| *direction == '<')
            .map(|(_, bytes)| bytes)
            .collect();
        let mut answer = which.get(&answers).clone();
        let (mut client, _) = fake::client(1 << 21, move |sent| {
            // So that it is heard, even.
            answer[8..12].copy_from_slice(&sent[0].sequence.to_ne_bytes());
            *at.get_mut(&mut answer) = byte;
            vec![Ok(answer.clone()), Ok(fake::done(sent[0].sequence, 0, 0))]
        });
        let _ = client.services();
        let _ = client.destinations(&stories::web());
        let _ = client.apply(&stories::batch());
        let _ = client.info();
    }

    #[test]
    fn prefixes_become_netmasks_and_back(prefix in 0u8..=32, longer in 0u8..=128) {
        prop_assert_eq!(Netmask::from_prefix(Family::V4, prefix).prefix(), Some(prefix));
        prop_assert_eq!(Netmask::from_prefix(Family::V6, longer).prefix(), Some(longer));
    }
}

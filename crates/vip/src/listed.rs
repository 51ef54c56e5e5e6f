//! VIPs among the addresses that the kernel lists or tells of.

use std::net::IpAddr;

use netlink_exchange::attributes;
use netlink_packet_core::{DecodeError, Emitable};
use netlink_packet_route::address::{AddressHeader, AddressMessage, AddressScope};

use crate::host::local_address;
use crate::message::{family, host_prefix};

/// `IFA_ADDRESS` and `IFA_LOCAL` of `linux/if_addr.h`.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// As [`vip_of_address`], from the message itself: an audit looks at all VIPs, and
/// all that is said of each would be ten things to make and drop.
pub(crate) fn vip_in(message: &[u8], link: u32) -> Result<Option<IpAddr>, DecodeError> {
    let header = AddressHeader::parse(message)?;
    let attributes = message.get(header.buffer_len()..).unwrap_or_default();
    let (mut local, mut address) = (None, None);
    attributes::read(attributes, |attribute| {
        match attribute.kind() {
            IFA_LOCAL => local = local.or(Some(attribute.value())),
            IFA_ADDRESS => address = Some(attribute.value()),
            _ => {}
        }
        Ok(())
    })?;
    let Some(bytes) = local.or(address) else {
        return Ok(None);
    };
    let vip = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(v6)
    } else {
        return Err(format!("an address of {} bytes", bytes.len()).into());
    };
    Ok(is_vip(&header, vip, link).then_some(vip))
}

/// The VIP of an address, if it is one on that link.
pub(crate) fn vip_of_address(message: &AddressMessage, link: u32) -> Option<IpAddr> {
    let vip = local_address(message)?;
    is_vip(&message.header, vip, link).then_some(vip)
}

/// Whether an address is one that we bound to that link.
fn is_vip(header: &AddressHeader, vip: IpAddr, link: u32) -> bool {
    header.index == link
        && header.scope == AddressScope::Universe
        && header.prefix_len == host_prefix(vip)
        && header.family == family(vip)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Parseable;
    use netlink_packet_route::address::AddressAttribute;
    use proptest::prelude::*;

    use super::*;

    const LINK: u32 = 7;

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    fn attribute() -> impl Strategy<Value = AddressAttribute> {
        prop_oneof![
            3 => ip().prop_map(AddressAttribute::Local),
            3 => ip().prop_map(AddressAttribute::Address),
            1 => Just(AddressAttribute::Label("kube-ipvs0".to_owned())),
        ]
    }

    proptest! {
        #[test]
        fn a_message_says_what_all_of_it_read_says(
            link in LINK..LINK + 2,
            scope in prop_oneof![3 => Just(AddressScope::Universe), 1 => Just(AddressScope::Link)],
            six in any::<bool>(),
            prefix in prop_oneof![Just(24_u8), Just(32), Just(128)],
            attributes in prop::collection::vec(attribute(), 0..4),
        ) {
            let mut message = AddressMessage::default();
            let any = if six { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
            message.header.family = family(any);
            message.header.prefix_len = prefix;
            message.header.scope = scope;
            message.header.index = link;
            message.attributes = attributes;
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);

            let whole = AddressMessage::parse(&bytes).unwrap();
            prop_assert_eq!(vip_in(&bytes, LINK).unwrap(), vip_of_address(&whole, LINK));
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_is_an_error() {
        let header = [2, 32, 0, 0, 7, 0, 0, 0];
        assert!(vip_in(&header[..7], LINK).is_err());
        assert_eq!(vip_in(&header, LINK).unwrap(), None, "no address");
        for attribute in [&[7, 0, 2, 0, 10, 0, 0][..], &[8, 0, 2, 0, 10]] {
            assert!(vip_in(&[&header, attribute].concat(), LINK).is_err());
        }
    }
}

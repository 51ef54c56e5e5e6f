//! Which addresses of this host take NodePorts.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::event::Kind;
use crate::names::Warning;
use crate::options::{NodePortAddresses, Options};
use crate::regarding::Regarding;
use crate::slices::unusable;
use crate::state::Family;

/// The addresses that take NodePorts. What is not known is not served: `primary`
/// with an unknown address must not mean all addresses.
pub(super) fn addresses(
    host: &BTreeSet<IpAddr>,
    own: &[IpAddr],
    options: &Options,
) -> (Vec<IpAddr>, Vec<Warning>) {
    let usable = host.iter().copied().filter(|a| unusable(*a).is_none());
    match &options.node_port_addresses {
        NodePortAddresses::All => (usable.collect(), Vec::new()),
        NodePortAddresses::Cidrs(nets) => {
            let none_for = |family| {
                let mut nets = nets.iter();
                !nets.any(|net| Family::of(net.addr()) == family)
            };
            let chosen = usable.filter(|address| {
                none_for(Family::of(*address)) || nets.iter().any(|net| net.contains(address))
            });
            (chosen.collect(), Vec::new())
        }
        NodePortAddresses::Primary => primary(host, own, options),
        NodePortAddresses::PrimaryAnd(nets) => {
            let (mut chosen, warnings) = primary(host, own, options);
            let named = usable.filter(|a| nets.iter().any(|net| net.contains(a)));
            let more: Vec<IpAddr> = named.filter(|a| !chosen.contains(a)).collect();
            chosen.extend(more);
            (chosen, warnings)
        }
    }
}

/// The node's own addresses that this host has, one a family.
fn primary(
    host: &BTreeSet<IpAddr>,
    own: &[IpAddr],
    options: &Options,
) -> (Vec<IpAddr>, Vec<Warning>) {
    let first = |family| {
        let mut own = own.iter().copied();
        own.find(|a| Family::of(*a) == family && host.contains(a))
    };
    let chosen: Vec<IpAddr> = options.families.iter().filter_map(|f| first(*f)).collect();
    let warnings = if chosen.is_empty() {
        vec![Warning {
            object: Regarding::named(Kind::Node, "", &options.node_name, None),
            message: "NodePorts are for the node's primary address, and none is known \
                      that this host has; they are not served there"
                .to_owned(),
        }]
    } else {
        Vec::new()
    };
    (chosen, warnings)
}

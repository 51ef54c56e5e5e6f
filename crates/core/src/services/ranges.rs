//! `loadBalancerSourceRanges`: who may use the load-balancer addresses.

use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::k8s::ServiceSpec;
use crate::read::{self, Quoted};
use crate::state::Family;
use crate::warnings::Warnings;

/// Networks that may, by family; `None` is everybody.
#[derive(Debug, PartialEq)]
pub(crate) struct Networks {
    v4: Option<Vec<IpNet>>,
    v6: Option<Vec<IpNet>>,
}

impl Networks {
    /// Those of a family.
    pub(crate) fn of(&self, family: Family) -> Option<&[IpNet]> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// Whether an address is in one of them.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let mut nets = self.of(Family::of(address)).into_iter().flatten();
        nets.any(|net| net.contains(&address))
    }
}

/// Reads the ranges. A family without any is open, as is one with `/0`; but when
/// a range cannot be read, a family without another one is closed: opening what
/// somebody wanted closed would be worse. None when both are open.
pub(super) fn read(spec: &ServiceSpec, warnings: &mut Warnings) -> Option<Networks> {
    let (mut v4, mut v6): (Vec<Ipv4Net>, Vec<Ipv6Net>) = Default::default();
    let mut unread = false;
    for text in &spec.load_balancer_source_ranges {
        // The API allows blanks around these.
        let Some(read) = read::network_or_address(text.trim()) else {
            unread = true;
            warnings.add(format!(
                "loadBalancerSourceRanges {} is no network; nobody is let in by it",
                Quoted(text)
            ));
            continue;
        };
        if let Some(note) = read.note() {
            warnings.add(format!("loadBalancerSourceRanges: {note}"));
        }
        match read.value {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    let networks = Networks {
        v4: closed(Ipv4Net::aggregate(&v4), unread, |net| net.prefix_len()),
        v6: closed(Ipv6Net::aggregate(&v6), unread, |net| net.prefix_len()),
    };
    let is_open = networks.v4.is_none() && networks.v6.is_none();
    (!is_open).then_some(networks)
}

fn closed<N: Into<IpNet>>(
    nets: Vec<N>,
    unread: bool,
    prefix: impl Fn(&N) -> u8,
) -> Option<Vec<IpNet>> {
    let open = nets.iter().any(|net| prefix(net) == 0);
    if open || (nets.is_empty() && !unread) {
        return None;
    }
    Some(nets.into_iter().map(Into::into).collect())
}

//! `loadBalancerSourceRanges`: who may use the load-balancer addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Warnings;
use crate::k8s::ServiceSpec;
use crate::read::{self, Quoted};
use crate::state::{Family, Front, NftElement, NftSet};

/// Networks that may, by family; `None` is everybody.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: Option<Vec<IpNet>>,
    v6: Option<Vec<IpNet>>,
}

impl Ranges {
    /// Elements that hold a front to them. Where an address of this host is let
    /// in, the front's own is too: a VIP that is bound as an address is the
    /// source of what the host sends to it.
    pub(super) fn elements(
        &self,
        front: Front,
        host: &BTreeSet<IpAddr>,
    ) -> Vec<(NftSet, NftElement)> {
        let nets = match Family::of(front.address) {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let Some(nets) = nets else {
            return Vec::new();
        };
        let restricted = (NftSet::Restricted, NftElement::Front(front));
        let ours = nets.iter().any(|net| host.iter().any(|a| net.contains(a)));
        let own = ours.then(|| IpNet::from(front.address));
        let nets: Vec<IpNet> = nets.iter().copied().chain(own).collect();
        let sources = IpNet::aggregate(&nets).into_iter();
        let sources = sources.map(|net| super::source(front, net));
        std::iter::once(restricted).chain(sources).collect()
    }
}

/// Reads the ranges. A family without any is open, as is one with `/0`; but when
/// a range cannot be read, a family without another one is closed: opening what
/// somebody wanted closed would be worse.
pub(super) fn read(spec: &ServiceSpec, warnings: &mut Warnings) -> Ranges {
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
    Ranges {
        v4: closed(Ipv4Net::aggregate(&v4), unread, |net| net.prefix_len()),
        v6: closed(Ipv6Net::aggregate(&v6), unread, |net| net.prefix_len()),
    }
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

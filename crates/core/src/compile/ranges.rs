//! `loadBalancerSourceRanges`: who may use the load-balancer addresses.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Warnings;
use crate::k8s::ServiceSpec;
use crate::read::{self, Quoted};
use crate::state::Family;

/// Networks that may, by family; `None` is everybody.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    v4: Option<Vec<IpNet>>,
    v6: Option<Vec<IpNet>>,
    /// Families in which an address of this host is let in.
    ours: BTreeSet<Family>,
}

impl Ranges {
    /// Whether an address is for some only.
    pub(crate) fn restrict(&self, address: IpAddr) -> bool {
        self.of_family(address).is_some()
    }

    /// How many networks an address is for, at most.
    pub(crate) fn count(&self, address: IpAddr) -> usize {
        self.of_family(address).map_or(0, |nets| nets.len() + 1)
    }

    /// The networks that an address is for. Where an address of this host is let
    /// in, its own is too: a VIP that is bound as an address is the source of
    /// what the host sends to it.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<IpNet> {
        let nets = self.of_family(address).into_iter().flatten().copied();
        let ours = self.ours.contains(&Family::of(address));
        let own = ours.then(|| IpNet::from(address));
        IpNet::aggregate(&nets.chain(own).collect())
    }

    fn of_family(&self, address: IpAddr) -> Option<&Vec<IpNet>> {
        match Family::of(address) {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

/// Reads the ranges. A family without any is open, as is one with `/0`; but when
/// a range cannot be read, a family without another one is closed: opening what
/// somebody wanted closed would be worse.
pub(super) fn read(spec: &ServiceSpec, host: &BTreeSet<IpAddr>, warnings: &mut Warnings) -> Ranges {
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
    let ours = host.iter().filter(|address| match address {
        IpAddr::V4(address) => v4.iter().any(|net| net.contains(address)),
        IpAddr::V6(address) => v6.iter().any(|net| net.contains(address)),
    });
    Ranges {
        ours: ours.map(|address| Family::of(*address)).collect(),
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

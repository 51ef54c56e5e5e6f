//! Who may use restricted fronts: elements for the ports of an address together.
//!
//! A network costs an element for each run of neighbouring ports; where no other
//! Service restricts fronts at the address, for all ports from the first to the
//! last, since those between are not asked for. So the ports of a Service share
//! its networks, and what it costs does not grow with ports times networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::compile::Ranges;
use crate::names::ServiceName;
use crate::state::{Front, NftElement, NftSet, Ports, Protocol};

/// Elements that a Service may have. The kernel needs the square of the time for
/// them: 4,096 take about half a second.
pub(super) const MOST: usize = 4096;

/// The Services that restrict fronts at each address.
#[derive(Debug, Default)]
pub(super) struct Restricting(BTreeMap<IpAddr, BTreeSet<ServiceName>>);

impl Restricting {
    /// Replaces the addresses of a Service. Returns the others that come to
    /// share an address, or to have it alone.
    pub(super) fn stake(
        &mut self,
        service: &ServiceName,
        before: &[IpAddr],
        now: &BTreeSet<IpAddr>,
    ) -> BTreeSet<ServiceName> {
        let mut rivals = BTreeSet::new();
        for address in before.iter().filter(|address| !now.contains(address)) {
            let Some(all) = self.0.get_mut(address) else {
                continue;
            };
            all.remove(service);
            match all.len() {
                0 => _ = self.0.remove(address),
                1 => rivals.extend(all.iter().cloned()),
                _ => {}
            }
        }
        for address in now {
            let all = self.0.entry(*address).or_default();
            if all.insert(service.clone()) && all.len() == 2 {
                rivals.extend(all.iter().cloned());
            }
        }
        rivals
    }

    /// Whether an address is restricted by no more than one Service.
    pub(super) fn is_alone(&self, address: IpAddr) -> bool {
        self.0.get(&address).is_none_or(|all| all.len() < 2)
    }
}

/// The elements for the restricted fronts of a Service; their number when they
/// are too many to be made.
pub(super) fn elements(
    restricted: &BTreeSet<Front>,
    ranges: &Ranges,
    restricting: &Restricting,
) -> Result<Vec<(NftSet, NftElement)>, usize> {
    let runs = runs(restricted, restricting);
    let count = runs.iter().map(|run| ranges.count(run.address)).sum();
    if count > MOST {
        return Err(count);
    }
    let sources = runs.into_iter().flat_map(|run| {
        let nets = ranges.of(run.address).into_iter();
        nets.map(move |net| (NftSet::AllowedSources, NftElement::Source(run, net)))
    });
    Ok(sources.collect())
}

fn runs(restricted: &BTreeSet<Front>, restricting: &Restricting) -> Vec<Ports> {
    let mut ports: BTreeMap<(IpAddr, Protocol), BTreeSet<u16>> = BTreeMap::new();
    for front in restricted {
        let of = ports.entry((front.address, front.protocol)).or_default();
        of.insert(front.port);
    }
    let mut runs: Vec<Ports> = Vec::new();
    for ((address, protocol), ports) in ports {
        let alone = restricting.is_alone(address);
        for port in ports {
            let next = |run: &Ports| {
                (run.address, run.protocol) == (address, protocol)
                    && (alone || run.last.checked_add(1) == Some(port))
            };
            match runs.last_mut().filter(|run| next(run)) {
                Some(run) => run.last = port,
                None => runs.push(Ports {
                    address,
                    protocol,
                    first: port,
                    last: port,
                }),
            }
        }
    }
    runs
}

//! Who may use restricted fronts: the networks of an address, shared by the
//! fronts of a Service there.
//!
//! In the kernel a network costs an element for each run of neighbouring ports;
//! where no other Service restricts fronts at the address, for all ports from
//! the first to the last, since those between are not asked for. So what a
//! Service costs does not grow with ports times networks, and is bounded here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::compile::Ranges;
use crate::names::ServiceName;
use crate::row::Sources;
use crate::state::{Front, Protocol};

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

/// The networks of each address at which a Service restricts fronts; their
/// number, counted as often as the kernel has them, when they are too many.
pub(super) fn sources(
    restricted: &BTreeSet<Front>,
    ranges: &Ranges,
    restricting: &Restricting,
) -> Result<BTreeMap<IpAddr, Sources>, usize> {
    let runs = runs(restricted, restricting);
    let count = runs.iter().map(|address| ranges.count(*address)).sum();
    if count > MOST {
        return Err(count);
    }
    let addresses: BTreeSet<IpAddr> = runs.into_iter().collect();
    let of = |address| {
        let mut nets = ranges.of(address);
        nets.sort_unstable();
        (address, Sources::from(nets))
    };
    Ok(addresses.into_iter().map(of).collect())
}

/// The addresses of runs of ports, one for each run.
fn runs(restricted: &BTreeSet<Front>, restricting: &Restricting) -> Vec<IpAddr> {
    let mut ports: BTreeMap<(IpAddr, Protocol), BTreeSet<u16>> = BTreeMap::new();
    for front in restricted {
        let of = ports.entry((front.address, front.protocol)).or_default();
        of.insert(front.port);
    }
    let mut runs = Vec::new();
    for ((address, _), ports) in ports {
        let alone = restricting.is_alone(address);
        let mut last: Option<u16> = None;
        for port in ports {
            let next = last.and_then(|last| last.checked_add(1)) == Some(port);
            if last.is_none() || !next && !alone {
                runs.push(address);
            }
            last = Some(port);
        }
    }
    runs
}

//! Ports that the host's own connections may take and NodePorts may have.
//!
//! Where a NodePort is a virtual server at the host's address, IPVS takes every
//! packet to that address and port, the answers to a connection of the host from
//! that port as well.

use std::ops::RangeInclusive;

use super::finding::Finding;
use super::host::Host;
use crate::adopt::NodePorts;

const NAME: &str = "local ports";
pub(super) const NODE_PORTS: RangeInclusive<u16> = NodePorts::RANGE;

pub(super) fn check(host: &Host) -> Finding {
    let Some(range) = host
        .read("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| ports(&text))
    else {
        return Finding::warn(
            NAME,
            "net.ipv4.ip_local_port_range cannot be read",
            "mount /proc",
        );
    };
    let reserved = host.read("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let reserved = reserved.unwrap_or_default();
    let reserved: Vec<_> = reserved.split(',').filter_map(ports).collect();
    let taken = NODE_PORTS.filter(|port| range.contains(port));
    let count = taken
        .filter(|port| !reserved.iter().any(|range| range.contains(port)))
        .count();
    let (first, last) = (range.start(), range.end());
    if count == 0 {
        return Finding::ok(NAME, format!("{first} to {last}, clear of NodePorts"));
    }
    Finding::warn(
        NAME,
        format!(
            "connections of this host may take {count} ports that NodePorts may have \
             (net.ipv4.ip_local_port_range is {first} to {last}): while one is such a \
             Service's, those from it get no answer"
        ),
        "set net.ipv4.ip_local_reserved_ports to 30000-32767, or another range of local \
         ports, or run with --nodeport-virtual-servers=mark",
    )
}

/// `32768 60999`, `30000-32767` or `8080`.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|x| !x.is_empty());
    let first = numbers.next()?.parse().ok()?;
    let last = numbers.next().map_or(Some(first), |x| x.parse().ok())?;
    Some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict::{self, Ok, Warn};
    use crate::check::host::testing::host;

    #[test]
    fn local_ports_that_node_ports_may_have_are_warned_of() {
        let cases: [(&str, &str, Verdict); 6] = [
            ("32768\t60999\n", "\n", Ok),
            ("1024\t29999\n", "\n", Ok),
            ("32767\t60999\n", "\n", Warn),
            ("30000\t30010\n", "\n", Warn),
            ("30000\t30010\n", "8080,30000-30009\n", Warn),
            ("1024\t60999\n", "8080,30000-31000,31001-32767\n", Ok),
        ];
        for (range, reserved, expected) in cases {
            let made = host(&[
                ("/proc/sys/net/ipv4/ip_local_port_range", range),
                ("/proc/sys/net/ipv4/ip_local_reserved_ports", reserved),
            ]);

            let finding = check(&made.host);

            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }
}

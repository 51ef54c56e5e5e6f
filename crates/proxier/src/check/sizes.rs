//! Tables that get full, or slow: connection tracking, and IPVS's own.

use super::finding::Finding;
use super::host::Host;

/// Entries a row of the connection table at which it counts as slow.
const LOAD: u64 = 8;

/// `ipvs` has the connections of IPVS and the rows of their table.
pub(super) fn check(host: &Host, ipvs: Option<(u64, u32)>) -> Vec<Finding> {
    let conntrack = conntrack(
        host.number("/proc/sys/net/netfilter/nf_conntrack_count"),
        host.number("/proc/sys/net/netfilter/nf_conntrack_max"),
    );
    let ipvs = ipvs.map(|(count, rows)| connections(count, u64::from(rows)));
    [conntrack, ipvs].into_iter().flatten().collect()
}

/// None until conntrack is loaded.
fn conntrack(count: Option<u64>, max: Option<u64>) -> Option<Finding> {
    let (count, max) = (count?, max?);
    let name = "conntrack";
    let detail = format!("{count} of {max} entries");
    Some(if max > 0 && count * 5 >= max * 4 {
        Finding::warn(
            name,
            format!("{detail}: new connections are dropped when it is full"),
            "raise --conntrack-max-per-core or --conntrack-min",
        )
    } else {
        Finding::ok(name, detail)
    })
}

fn connections(count: u64, rows: u64) -> Finding {
    let name = "ipvs connections";
    let detail = format!("{count} in {rows} rows");
    if rows > 0 && count > rows * LOAD {
        Finding::warn(
            name,
            format!("{detail}: more than {LOAD} a row, each packet searches longer"),
            format!(
                "load ip_vs with conn_tab_bits={} (/etc/modprobe.d: options ip_vs conn_tab_bits=N)",
                bits_for(count)
            ),
        )
    } else {
        Finding::ok(name, detail)
    }
}

/// A row for each connection; the kernel takes 8 to 20.
fn bits_for(count: u64) -> u32 {
    count.next_power_of_two().trailing_zeros().clamp(12, 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    #[test]
    fn conntrack_warns_from_four_fifths_on() {
        let verdict = |count| conntrack(Some(count), Some(1000)).map(|f| f.verdict);

        assert_eq!(verdict(799), Some(Verdict::Ok));
        assert_eq!(verdict(800), Some(Verdict::Warn));
        assert_eq!(conntrack(None, None), None);
    }

    #[test]
    fn connections_warn_above_eight_a_row() {
        assert_eq!(connections(32768, 4096).verdict, Verdict::Ok);
        let slow = connections(500_000, 4096);
        assert_eq!(slow.verdict, Verdict::Warn);
        assert!(slow.remedy.contains("conn_tab_bits=19"), "{slow:?}");
    }
}

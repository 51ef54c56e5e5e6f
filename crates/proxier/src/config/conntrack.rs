//! The sizes and timeouts of conntrack that kube-proxy sets.

use super::duration::GoDuration;

/// What is set; none leaves the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// `nf_conntrack_max` for each CPU.
    pub max_per_core: Option<u32>,
    /// Least `nf_conntrack_max`.
    pub min: u32,
    /// Whole seconds.
    pub tcp_established_timeout: Option<u64>,
    /// Whole seconds.
    pub tcp_close_wait_timeout: Option<u64>,
    /// Packets outside the window are accepted.
    pub tcp_be_liberal: bool,
    /// Whole seconds.
    pub udp_timeout: Option<u64>,
    /// Whole seconds.
    pub udp_stream_timeout: Option<u64>,
    /// Whole seconds that `udp_stream_timeout` is raised to where it is less: as
    /// long as IPVS keeps such flows.
    pub udp_stream_at_least: Option<u64>,
}

/// More than this is not set, however many CPUs there are.
const MOST: u64 = 1_048_576;

/// Time-out of UDP flows that were answered, below `/proc/sys`.
pub const UDP_STREAM: &str = "net/netfilter/nf_conntrack_udp_timeout_stream";

impl Conntrack {
    /// `nf_conntrack_max` on a host with this many CPUs.
    pub fn max(&self, cpus: usize) -> Option<u64> {
        let per_core = u64::from(self.max_per_core?);
        let scaled = per_core.saturating_mul(cpus as u64).min(MOST);
        Some(scaled.max(u64::from(self.min)))
    }

    /// Hash size to raise `/sys/module/nf_conntrack/parameters/hashsize` to,
    /// when that is smaller.
    pub fn hash_size(&self, cpus: usize) -> Option<u64> {
        self.max(cpus).map(|x| x / 4)
    }

    /// Files below `/proc/sys` and what to write there.
    pub fn sysctls(&self, cpus: usize) -> Vec<(&'static str, String)> {
        let values = [
            ("net/netfilter/nf_conntrack_max", self.max(cpus)),
            (
                "net/netfilter/nf_conntrack_tcp_timeout_established",
                self.tcp_established_timeout,
            ),
            (
                "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
                self.tcp_close_wait_timeout,
            ),
            (
                "net/netfilter/nf_conntrack_tcp_be_liberal",
                self.tcp_be_liberal.then_some(1),
            ),
            ("net/netfilter/nf_conntrack_udp_timeout", self.udp_timeout),
            (UDP_STREAM, self.udp_stream_timeout),
        ];
        let set = |(path, value): (&'static str, Option<u64>)| Some((path, value?.to_string()));
        values.into_iter().filter_map(set).collect()
    }
}

/// Whole seconds; zero is none.
pub(super) fn seconds(duration: GoDuration) -> Option<u64> {
    duration.duration().map(|x| x.as_secs()).filter(|x| *x > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_follows_the_cpus_between_floor_and_ceiling() {
        let conntrack = Conntrack {
            max_per_core: Some(32_768),
            min: 131_072,
            ..Conntrack::default()
        };
        assert_eq!(conntrack.max(1), Some(131_072));
        assert_eq!(conntrack.max(8), Some(262_144));
        assert_eq!(conntrack.max(128), Some(1_048_576));
        assert_eq!(conntrack.hash_size(8), Some(65_536));
        assert_eq!(
            Conntrack {
                max_per_core: None,
                ..conntrack
            }
            .max(8),
            None
        );
    }

    #[test]
    fn what_is_none_is_not_written() {
        assert_eq!(Conntrack::default().sysctls(4), []);
        let some = Conntrack {
            udp_timeout: Some(30),
            tcp_be_liberal: true,
            ..Conntrack::default()
        };
        assert_eq!(
            some.sysctls(4),
            [
                ("net/netfilter/nf_conntrack_tcp_be_liberal", "1".to_owned()),
                ("net/netfilter/nf_conntrack_udp_timeout", "30".to_owned()),
            ]
        );
    }
}

//! What the kernel is told once, at the start: IPVS' scheduler and timeouts,
//! conntrack's sizes and timeouts.

use kube_ipvs_core::options::SCHEDULERS;
use kube_ipvs_core::state::Flags;

use super::Check;
use crate::config::conntrack::{Conntrack, seconds};
use crate::config::door;
use crate::config::duration::GoDuration;
use crate::config::flags::RunArgs;
use crate::config::settings::IpvsTimeouts;

/// The longest IPVS timeout the kernel takes: 31 days.
const LONGEST_IPVS_TIMEOUT: u64 = 2_678_400;

/// Entries of conntrack for each CPU, and at least: kube-proxy's defaults of the
/// one where the other is asked for.
const MAX_PER_CORE: i32 = 32 * 1024;
const MIN_ENTRIES: i32 = 128 * 1024;

impl Check<'_> {
    pub(super) fn scheduler(&mut self) -> String {
        let name = &self.configuration.ipvs.scheduler;
        if name.is_empty() {
            return "rr".to_owned();
        }
        if !SCHEDULERS.contains(&name.as_str()) {
            let allowed = format!("allowed: {}", SCHEDULERS.join(", "));
            self.collector
                .field("ipvs.scheduler", format!("{name:?}"), allowed);
        }
        name.clone()
    }

    pub(super) fn scheduler_flags(&mut self, args: &RunArgs, scheduler: &str) -> Flags {
        // kube-proxy knows Maglev with ports only.
        let mut flags = Flags {
            port: scheduler == "mh",
            ..Flags::default()
        };
        for word in args.ipvs_scheduler_flags.iter().filter(|x| !x.is_empty()) {
            match (scheduler, word.as_str()) {
                ("sh", "sh-port") | ("mh", "mh-port") => flags.port = true,
                ("sh", "no-sh-port") | ("mh", "no-mh-port") => flags.port = false,
                ("sh", "sh-fallback") | ("mh", "mh-fallback") => flags.fallback = true,
                _ => self.collector.flag(
                    "ipvs-scheduler-flags",
                    format!("{word:?}"),
                    flags_allowed(scheduler),
                ),
            }
        }
        flags
    }

    pub(super) fn ipvs_timeouts(&mut self) -> IpvsTimeouts {
        let ipvs = &self.configuration.ipvs;
        IpvsTimeouts {
            tcp: self.ipvs_timeout("ipvs.tcpTimeout", ipvs.tcp_timeout),
            tcp_fin: self.ipvs_timeout("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout),
            udp: self.ipvs_timeout("ipvs.udpTimeout", ipvs.udp_timeout),
        }
    }

    pub(super) fn ipvs_timeout(&mut self, field: &str, value: GoDuration) -> Option<u32> {
        let whole = self.whole_seconds(field, value, LONGEST_IPVS_TIMEOUT, "31 days")?;
        u32::try_from(whole).ok()
    }

    pub(super) fn conntrack(&mut self) -> Conntrack {
        let conntrack = &self.configuration.conntrack;
        let established = conntrack.tcp_established_timeout.unwrap_or_default();
        let close_wait = conntrack.tcp_close_wait_timeout.unwrap_or_default();
        let max_per_core = self.entries_per_core();
        let stream = self.timeout("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout);
        let ipvs = seconds(self.configuration.ipvs.udp_timeout);
        Conntrack {
            max_per_core: Some(max_per_core).filter(|x| *x > 0),
            min: self.entries(),
            tcp_established_timeout: self.timeout("conntrack.tcpEstablishedTimeout", established),
            tcp_close_wait_timeout: self.timeout("conntrack.tcpCloseWaitTimeout", close_wait),
            tcp_be_liberal: conntrack.tcp_be_liberal,
            udp_timeout: self.timeout("conntrack.udpTimeout", conntrack.udp_timeout),
            udp_stream_timeout: stream,
            udp_stream_at_least: ipvs.filter(|_| stream.is_none()),
        }
    }

    /// What neither names stays the host's; who names one of the two gets
    /// kube-proxy's default of the other.
    pub(super) fn entries_per_core(&mut self) -> u32 {
        let conntrack = &self.configuration.conntrack;
        let asked = conntrack.min.is_some_and(|least| least > 0);
        let default = if asked { MAX_PER_CORE } else { 0 };
        let value = conntrack.max_per_core.unwrap_or(default);
        self.count("conntrack.maxPerCore", value)
    }

    pub(super) fn entries(&mut self) -> u32 {
        let field = "conntrack.min";
        let value = self.configuration.conntrack.min.unwrap_or(MIN_ENTRIES);
        let least = self.count(field, value);
        let most = door::MOST_CONNTRACK_ENTRIES;
        if least > most {
            self.collector
                .field(field, least, format!("allowed: at most {most}"));
        }
        least
    }

    pub(super) fn timeout(&mut self, field: &str, value: GoDuration) -> Option<u64> {
        self.whole_seconds(field, value, door::LONGEST_CONNTRACK_TIMEOUT, "248 days")
    }
}

fn is_hashing(scheduler: &str) -> bool {
    matches!(scheduler, "sh" | "mh")
}

fn flags_allowed(scheduler: &str) -> String {
    if is_hashing(scheduler) {
        format!(
            "allowed with scheduler {scheduler}: {scheduler}-port, no-{scheduler}-port, {scheduler}-fallback"
        )
    } else {
        format!(
            "scheduler {scheduler} has no flags; allowed: sh-port, no-sh-port, sh-fallback with sh, mh-port, no-mh-port, mh-fallback with mh"
        )
    }
}

//! `process_*`: what this process uses, read from `/proc/self` at each scrape;
//! and what it could not say.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The collector. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        if let Some(stat) = Stat::of_this_process() {
            let cpu = encoder.encode_descriptor(
                "process_cpu_seconds",
                "User and system CPU time spent",
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(stat.cpu_seconds).encode(cpu)?;
            gauge(
                &mut encoder,
                "process_resident_memory_bytes",
                "Resident memory",
                stat.resident_bytes,
            )?;
            gauge(
                &mut encoder,
                "process_virtual_memory_bytes",
                "Virtual memory",
                stat.virtual_bytes,
            )?;
            gauge(
                &mut encoder,
                "process_start_time_seconds",
                "When the process started, Unix time",
                stat.start_seconds,
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors",
                open.count() as f64,
            )?;
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            gauge(
                &mut encoder,
                "process_max_fds",
                "Most file descriptors that may be open",
                soft as f64,
            )?;
        }
        let lost = encoder.encode_descriptor(
            "kube_ipvs_log_messages_lost",
            "Log messages that standard error did not take",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(crate::streams::lost()).encode(lost)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// The fields of `/proc/self/stat` that are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn of_this_process() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        Self::parse(&stat, boot_time(&boot)?, ticks as f64, page as f64)
    }

    /// The command's name may hold spaces and parentheses: fields count from the last `)`.
    fn parse(stat: &str, boot: f64, ticks_a_second: f64, page_bytes: f64) -> Option<Self> {
        let fields: Vec<f64> = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        // Field 4 of proc_pid_stat(5) is the first one here.
        let field = |number: usize| fields.get(number - 4).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks_a_second,
            start_seconds: boot + field(22)? / ticks_a_second,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 1000 \
                    8192000 300 18446744073709551615 1 1";

        let parsed = Stat::parse(stat, 1_700_000_000.0, 100.0, 4096.0);

        assert_eq!(
            parsed,
            Some(Stat {
                cpu_seconds: 2.0,
                start_seconds: 1_700_000_010.0,
                virtual_bytes: 8_192_000.0,
                resident_bytes: 300.0 * 4096.0,
            })
        );
    }

    #[test]
    fn this_process_has_a_past_and_memory() {
        let stat = Stat::of_this_process().expect("/proc is mounted");

        assert!(stat.start_seconds > 1_500_000_000.0, "{stat:?}");
        assert!(stat.resident_bytes > 100_000.0, "{stat:?}");
    }
}

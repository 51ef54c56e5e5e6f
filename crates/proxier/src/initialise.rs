//! `--init-only`: sysctls, sizes of conntrack and IPVS time-outs, then the end.
//!
//! An init container runs it with the right to write `/proc/sys`; the daemon
//! after it finds every value in place and needs no such right. What was
//! changed goes into the ownership record, so that `cleanup` can put it back.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use ipvs_netlink as ipvs;
use kube_ipvs_dataplane::linux::{set_timeouts, with_hint};
use kube_ipvs_dataplane::lock::StateLock;
use kube_ipvs_dataplane::record::{ChangedTimeouts, RecordFile};
use kube_ipvs_dataplane::sysctl::{self, Changed, Wanted};

use crate::config::{Conntrack, UDP_STREAM};

/// Size of conntrack's hash table. The same as the module parameter `hashsize`.
const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
const REASON: &str = "asked for in the configuration";

/// All that is set.
#[derive(Debug, Clone)]
pub(crate) struct Initialise {
    /// `/proc/sys`.
    pub sysctl_root: PathBuf,
    /// Where the ownership record is kept.
    pub state_dir: PathBuf,
    /// Without these nothing works: one that cannot be set is an error.
    pub sysctls: Vec<Wanted>,
    /// Sizes and time-outs of conntrack.
    pub conntrack: Conntrack,
    /// IPVS time-outs in seconds; 0 keeps what is there.
    pub timeouts: ipvs::Timeouts,
}

/// Sets everything and says at INFO what was changed.
///
/// # Errors
/// No IPVS in the kernel, or one of its sysctls cannot be set. What concerns
/// conntrack, and the IPVS time-outs, are only warned of.
pub(crate) fn init_only(wanted: &Initialise) -> anyhow::Result<ExitCode> {
    // Asking for IPVS loads it, and with it its sysctls.
    let mut client = ipvs::Client::open()
        .map_err(with_hint)
        .context("open IPVS")?;
    let report = sysctl::ensure(&wanted.sysctl_root, &wanted.sysctls);
    let mut changed = report.changed;
    changed.extend(set_conntrack(&wanted.sysctl_root, &wanted.conntrack));
    for Changed {
        path,
        old,
        new,
        reason,
    } in &changed
    {
        tracing::info!(%path, from = %old, to = %new, %reason, "sysctl set");
    }
    let timeouts = set_timeouts(&mut client, wanted.timeouts).unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        None
    });
    if let Err(error) = note(&wanted.state_dir, changed, timeouts) {
        tracing::warn!("not recorded, so that cleanup will leave it: {error:#}");
    }
    match report.failed.into_iter().next() {
        Some(failed) => Err(failed.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Sets what concerns conntrack, and gives what was changed, for the record.
/// One that cannot be set is warned of: a container may only see these.
pub(crate) fn set_conntrack(root: &Path, wanted: &Conntrack) -> Vec<Changed> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    set_conntrack_for(root, wanted, cpus)
}

fn set_conntrack_for(root: &Path, wanted: &Conntrack, cpus: usize) -> Vec<Changed> {
    let mut all = wanted.sysctls(cpus);
    // What is more already stays.
    let at_least = [
        (BUCKETS, wanted.hash_size(cpus)),
        (UDP_STREAM, wanted.udp_stream_at_least),
    ];
    for (path, least) in at_least {
        let is_less = |least: &u64| number(root, path).is_some_and(|now| now < *least);
        all.extend(least.filter(is_less).map(|least| (path, least.to_string())));
    }
    let mut changed = Vec::new();
    for (path, value) in all {
        match sysctl::write(root, path, &value, REASON) {
            Ok(change) => changed.extend(change),
            Err(failed) => tracing::warn!("{failed}"),
        }
    }
    changed
}

fn number(root: &Path, path: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join(path)).ok()?;
    text.trim().parse().ok()
}

fn note(
    state_dir: &Path,
    changed: Vec<Changed>,
    timeouts: Option<ChangedTimeouts>,
) -> anyhow::Result<()> {
    if changed.is_empty() && timeouts.is_none() {
        return Ok(());
    }
    let _lock = StateLock::acquire(state_dir)?;
    let mut record = RecordFile::open(state_dir)?;
    record.add_sysctls(changed);
    if let Some(timeouts) = timeouts {
        record.add_timeouts(timeouts);
    }
    record.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "net/netfilter/nf_conntrack_max";

    fn root(max: &str, buckets: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("net/netfilter")).expect("directories");
        fs::write(root.path().join(MAX), max).expect("a file");
        fs::write(root.path().join(BUCKETS), buckets).expect("a file");
        root
    }

    fn wanted() -> Conntrack {
        Conntrack {
            max_per_core: Some(32768),
            min: 131_072,
            udp_timeout: Some(30),
            ..Conntrack::default()
        }
    }

    #[test]
    fn the_hash_table_grows_and_what_is_missing_stops_nothing() {
        let root = root("65536\n", "16384\n");

        let changed = set_conntrack_for(root.path(), &wanted(), 2);

        let changed: Vec<_> = changed
            .iter()
            .map(|x| (&*x.path, &*x.old, &*x.new))
            .collect();
        assert_eq!(
            changed,
            [(MAX, "65536", "131072"), (BUCKETS, "16384", "32768")]
        );
    }

    #[test]
    fn a_larger_hash_table_stays() {
        let root = root("131072\n", "65536\n");

        assert_eq!(set_conntrack_for(root.path(), &wanted(), 2), []);
    }

    #[test]
    fn conntrack_forgets_no_udp_flow_before_ipvs_does() {
        let wanted = Conntrack {
            udp_stream_at_least: Some(300),
            ..Conntrack::default()
        };
        for (now, then) in [("120", "300"), ("600", "600")] {
            let root = root("65536\n", "65536\n");
            fs::write(root.path().join(UDP_STREAM), now).expect("a file");

            let changed = set_conntrack_for(root.path(), &wanted, 2);

            let text = fs::read_to_string(root.path().join(UDP_STREAM)).expect("a file");
            assert_eq!(text.trim(), then);
            assert_eq!(changed.len(), usize::from(now != then));
        }
    }

    #[test]
    fn changes_are_recorded_for_cleanup() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = root("65536\n", "32768\n");
        let changed = set_conntrack_for(root.path(), &wanted(), 2);

        note(directory.path(), changed.clone(), None).expect("written");

        let record = RecordFile::open(directory.path()).expect("read");
        assert_eq!(record.record().sysctls, changed);
    }
}

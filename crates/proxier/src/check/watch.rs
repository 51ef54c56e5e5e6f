//! What of the host has to stay as it is while the program runs, and is not the
//! program's to set.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::bridge;
use super::host::Host;
use super::sysctl;

/// Looks at the host now and then.
#[derive(Debug)]
pub struct Watch {
    host: Host,
    every: Duration,
    last: Option<Instant>,
}

/// What was seen of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// Why pods of this node do not reach each other through a VIP.
    pub cut_off: Option<String>,
    /// What clients lose that take a source port again.
    pub reuse_mode: Option<String>,
}

impl Watch {
    /// Of the host this thread is on, at most once in a while.
    pub fn of_this_host(every: Duration) -> Self {
        Self {
            host: Host::this(),
            every,
            last: None,
        }
    }

    /// Looks, if it is time to; `pods` are the endpoints on this node, and are
    /// asked for only where they matter.
    pub fn look(&mut self, now: Instant, pods: impl FnOnce() -> BTreeSet<IpAddr>) -> Option<Seen> {
        if self.last.is_some_and(|last| now < last + self.every) {
            return None;
        }
        self.last = Some(now);
        let reuse_mode = sysctl::reuse_mode(&self.host);
        Some(Seen {
            cut_off: bridge::cut_off(&self.host, pods),
            reuse_mode: reuse_mode.map(|x| format!("{} {}: {}", x.name, x.detail, x.remedy)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::host::testing::{Made, host};

    const REUSE: &str = "/proc/sys/net/ipv4/vs/conn_reuse_mode";
    const EVERY: Duration = Duration::from_secs(30);

    fn watch(made: &Made) -> Watch {
        Watch {
            host: made.host.clone(),
            every: EVERY,
            last: None,
        }
    }

    #[test]
    fn a_reuse_mode_that_becomes_zero_is_seen_within_the_period_and_its_end_too() {
        let made = host(&[(REUSE, "1\n")]);
        let mut watch = watch(&made);
        let begun = Instant::now();
        let mut modes = Vec::new();
        for (seconds, mode) in [(0, "1\n"), (10, "0\n"), (30, "0\n"), (60, "1\n")] {
            made.write(REUSE, mode);
            let seen = watch.look(begun + Duration::from_secs(seconds), BTreeSet::new);
            modes.push(seen.map(|seen| seen.reuse_mode.is_some()));
        }

        assert_eq!(modes, [Some(false), None, Some(true), Some(false)]);
    }

    #[test]
    fn pods_are_asked_for_only_where_a_bridge_is_not_filtered() {
        let made = host(&[("/sys/class/net/eth0/mtu", "1500")]);

        let seen = watch(&made).look(Instant::now(), || panic!("nobody needs them"));

        assert_eq!(seen.expect("it is time").cut_off, None);
    }
}

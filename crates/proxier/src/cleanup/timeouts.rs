//! IPVS time-outs that we changed: put back, or handed over.

use ipvs_netlink as ipvs;
use kube_ipvs_dataplane::linux::set_timeouts;
use kube_ipvs_dataplane::record::ChangedTimeouts;

use super::Action;
use super::steps::{Cleaning, open_ipvs};
use crate::config::file::DEFAULT_TCP_TIMEOUT;

impl Cleaning<'_> {
    /// Time-outs that somebody has changed since are left alone.
    pub(super) fn put_back_timeouts(&mut self) -> anyhow::Result<()> {
        let Some(changed) = self.record.as_ref().and_then(|x| x.record().timeouts) else {
            return Ok(());
        };
        let mut client = open_ipvs()?;
        let [tcp, tcp_fin, udp] = changed.new;
        if client.timeouts()? == (ipvs::Timeouts { tcp, tcp_fin, udp }) {
            let [tcp, tcp_fin, udp] = changed.old;
            if !self.args.dry_run {
                set_timeouts(&mut client, ipvs::Timeouts { tcp, tcp_fin, udp })?;
            }
            let text = format!("from {:?} to {:?} seconds", changed.new, changed.old);
            self.say(Action::PutBack, "IPVS time-outs", text);
        }
        if let Some(record) = &mut self.record {
            record.forget_timeouts();
        }
        Ok(())
    }

    /// A time-out that we raised by ourselves goes back, since the other proxy
    /// would not set it; one that the configuration names is the other's too.
    pub(super) fn hand_over_timeouts(&mut self) -> anyhow::Result<()> {
        let Some(changed) = self.record.as_ref().and_then(|x| x.record().timeouts) else {
            return Ok(());
        };
        let mut client = open_ipvs()?;
        let ipvs::Timeouts { tcp, tcp_fin, udp } = client.timeouts()?;
        let handed = HandedTimeouts::of(&changed, [tcp, tcp_fin, udp]);
        if handed.target != [tcp, tcp_fin, udp] && !self.args.dry_run {
            let [tcp, tcp_fin, udp] = handed.target;
            set_timeouts(&mut client, ipvs::Timeouts { tcp, tcp_fin, udp })?;
        }
        for (action, text) in handed.said {
            self.say(action, "IPVS time-out", text);
        }
        if let Some(record) = &mut self.record {
            record.forget_timeouts();
        }
        Ok(())
    }
}

/// What becomes of IPVS time-outs that we changed, when another proxy follows.
struct HandedTimeouts {
    target: [u32; 3],
    said: Vec<(Action, String)>,
}

impl HandedTimeouts {
    fn of(changed: &ChangedTimeouts, now: [u32; 3]) -> Self {
        let mut handed = Self {
            target: now,
            said: Vec::new(),
        };
        for (at, name) in ["tcp", "tcpfin", "udp"].into_iter().enumerate() {
            let (old, new) = (changed.old[at], changed.new[at]);
            if old == new {
                continue;
            }
            let by_default = at == 0 && new == DEFAULT_TCP_TIMEOUT;
            let said = match (now[at] == new, by_default) {
                (true, true) => {
                    handed.target[at] = old;
                    (
                        Action::PutBack,
                        format!("{name} from {new} to {old} seconds"),
                    )
                }
                (true, false) => {
                    let text = format!(
                        "{name} as configured: {new} seconds, before it was {old}; the other \
                         proxy's configuration says what it should be"
                    );
                    (Action::Left, text)
                }
                (false, _) => {
                    let text = format!("{name}: somebody has changed it since, to {}", now[at]);
                    (Action::Left, text)
                }
            };
            handed.said.push(said);
        }
        handed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a report, and what is set.
    fn handed(old: [u32; 3], new: [u32; 3], now: [u32; 3]) -> (Vec<String>, [u32; 3]) {
        let handed = HandedTimeouts::of(&ChangedTimeouts { old, new }, now);
        let said = handed.said.into_iter();
        let line = |(action, text): (Action, String)| format!("{action:?} {text}");
        (said.map(line).collect(), handed.target)
    }

    #[test]
    fn a_time_out_that_nobody_asked_for_goes_back() {
        let (said, target) = handed([900, 120, 300], [7800, 120, 300], [7800, 120, 300]);
        assert_eq!(said, ["PutBack tcp from 7800 to 900 seconds"]);
        assert_eq!(target, [900, 120, 300]);
    }

    #[test]
    fn one_that_was_configured_is_left_and_named() {
        let (said, target) = handed([900, 120, 300], [3600, 120, 60], [3600, 120, 60]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("Left tcp as configured: 3600 seconds, before it was 900"));
        assert!(said[1].starts_with("Left udp as configured: 60 seconds, before it was 300"));
        assert_eq!(target, [3600, 120, 60]);
    }

    #[test]
    fn one_that_somebody_changed_since_is_left() {
        // kube-proxy has set its own already.
        let (said, target) = handed([900, 120, 300], [7800, 120, 300], [1800, 120, 300]);
        assert_eq!(said, ["Left tcp: somebody has changed it since, to 1800"]);
        assert_eq!(target, [1800, 120, 300]);
    }
}

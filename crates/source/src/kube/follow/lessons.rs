//! What a follower learns from a failure, and what it says of it.

use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind};
use tokio::time::Instant;

use super::Follower;
use crate::backoff::LONGEST;
use crate::kube::failure::Failure;

/// While nobody answers, one kind asks this often, for all.
const PROBE: Duration = Duration::from_millis(2500);
/// A relist so soon after an outage needs less chance: the outage's end has
/// spread the nodes already.
const AFTER_OUTAGE: Duration = Duration::from_secs(60);

impl Follower {
    /// Draws the lesson from a failure; says how long to wait.
    pub(super) async fn learn(&mut self, failure: &Failure) -> Duration {
        if failure.code().is_some_and(|code| code < 500) {
            self.answered();
        }
        self.waiting = failure.heals_with_the_server();
        if failure.unreachable() {
            self.away = Some(Instant::now());
        }
        self.cursor.learn(failure);
        match failure {
            Failure::NoStreaming(_) => {
                self.streaming = false;
                return Duration::ZERO;
            }
            Failure::Refused { code: 404, .. } if self.kind() == Kind::ServiceCidr => {
                return self.kind_is_absent().await;
            }
            // The rights of an older release: not worth a node without a proxy,
            // while all other kinds are worth the wait.
            Failure::Refused { code: 403, .. }
                if self.kind() == Kind::ServiceCidr && !self.status.kind(self.kind()).listed =>
            {
                return self.kind_is_absent().await;
            }
            Failure::Gone(_) => {
                let before = self.gone.replace(Instant::now());
                if before.is_none_or(|before| before.elapsed() > LONGEST) {
                    // An answer: that there was none before has no say in it. Only
                    // a storm of them is answered slower and slower.
                    self.backoff.reset();
                }
            }
            Failure::Back { .. } => {
                self.backoff.reset();
                return self.relist_jitter();
            }
            Failure::Silent(_) => self.silent = true,
            _ => {}
        }
        let pause = self.backoff.pause(failure.retry_after(), rand::random());
        match failure {
            Failure::Gone(_) => pause + self.relist_jitter(),
            failure if failure.unreachable() && self.kind() == Kind::Service => {
                pause.min(PROBE.mul_f64(0.5 + rand::random::<f64>() / 2.0))
            }
            _ => pause,
        }
    }

    /// A random wait, so that nodes which lost their place at once do not all
    /// list at once.
    fn relist_jitter(&self) -> Duration {
        let outage = self.away.is_some_and(|away| away.elapsed() < AFTER_OUTAGE);
        let longest = if outage {
            self.settings.relist_jitter / 5
        } else {
            self.settings.relist_jitter
        };
        longest.mul_f64(rand::random())
    }

    /// A server before Kubernetes 1.33 has no ServiceCIDRs, and one that does not
    /// show them to us has none for us: that is a full, empty list.
    async fn kind_is_absent(&mut self) -> Duration {
        if !self.status.kind(self.kind()).listed {
            for event in [
                Event::ListStarted(self.kind()),
                Event::ListCompleted(self.kind()),
            ] {
                // When nobody listens any more, the next round finds out.
                let _ = self.events.send(event).await;
            }
        }
        self.update(|status| status.listed = true);
        LONGEST.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// Tells of a failure, in the log and in the status.
    pub(super) fn report(&self, failure: &Failure, pause: Duration) {
        if matches!(failure, Failure::NoStreaming(_)) {
            tracing::debug!(kind = %self.kind(), %failure, "lists are paged instead");
            return;
        }
        let resource = self.requests.resource();
        let what = match resource.group() {
            "" => resource.plural().to_owned(),
            group => format!("{}.{group}", resource.plural()),
        };
        let text = format!("list and watch {what}: {failure}");
        let pause = format!("{:.1}s", pause.as_secs_f64());
        // One break heals by itself; it is worth waking someone when it does not.
        let went_back = matches!(failure, Failure::Back { .. });
        if went_back
            || self.backoff.failures() > 1
            || failure.code().is_some_and(|code| code != 410)
        {
            tracing::warn!(kind = %self.kind(), retry = pause, "{text}");
        } else {
            tracing::info!(kind = %self.kind(), retry = pause, "{text}");
        }
        self.update(|status| {
            status.failures += 1;
            status.failure = Some(text);
        });
    }
}

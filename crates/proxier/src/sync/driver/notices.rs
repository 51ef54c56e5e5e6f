//! What the kernel tells by itself, and what of the host is looked at for it.

use futures::{Stream, StreamExt};
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_vip::Notice;
use tokio::time::Instant;

use super::Driver;
use crate::sync::Syncer;

impl<D: Dataplane> Driver<D> {
    /// The kernel told of a change that may not have been ours.
    pub(super) fn notice(&mut self, notice: Notice) {
        tracing::debug!(?notice, "the kernel tells of a change");
        let look = match notice {
            Notice::HostAddress(_) => {
                self.syncer.doubt_host();
                self.agenda.host_changed(Instant::now());
                false
            }
            Notice::VipGone(vip) => self.syncer.expects(vip),
            Notice::VipCome(vip) => {
                if !self.syncer.expects(vip) {
                    self.syncer.doubt_vips();
                }
                false
            }
            Notice::Stray => {
                self.syncer.doubt_vips();
                false
            }
            Notice::Link => true,
            Notice::Lost => {
                tracing::info!("notices of the kernel were lost: everything is looked at");
                self.look_at_host();
                true
            }
        };
        if look {
            self.agenda.noticed(Instant::now());
        }
    }

    /// The kernel tells of changes no more: they are looked for.
    pub(super) fn hear_nothing(&mut self) {
        tracing::warn!(
            "the kernel's notices have ended: VIPs and this host's addresses are read once a \
             period instead"
        );
        self.syncer.follow_notices(false);
    }

    /// Tells the cluster of this host's addresses.
    pub(super) fn look_at_host(&mut self) {
        self.read_host(Syncer::look_at_host);
    }

    /// When this host's addresses cannot be read, the last ones stay in force.
    pub(super) fn read_host(&mut self, read: fn(&mut Syncer<D>) -> anyhow::Result<bool>) {
        let begun = Instant::now();
        self.agenda.host_begins(begun);
        match read(&mut self.syncer) {
            Ok(changed) => {
                self.reporter.reason("host-addresses", None);
                if changed {
                    self.request();
                }
                self.look_at_listeners(true);
                if self.reporter.try_ports(&mut self.syncer) {
                    self.request();
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the last known addresses stay in force"
                );
                self.reporter
                    .reason("host-addresses", Some(format!("{error:#}")));
                let delay = self.backoff.failed_after(begun.elapsed());
                self.agenda.host_failed(Instant::now() + delay);
            }
        }
    }

    /// Looks whether the host listens where Services are served.
    pub(super) fn look_at_listeners(&mut self, due: bool) {
        if self.syncer.look_at_listeners(due) {
            self.request();
        }
    }
}

/// The next notice, none at their end; waits for ever where they have ended.
pub(super) async fn noticed(
    changes: &mut Option<impl Stream<Item = Notice> + Unpin>,
) -> Option<Notice> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

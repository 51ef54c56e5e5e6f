//! One round after another: compile what changed, plan, apply, learn.
//!
//! [`Syncer`] is the whole of it without a clock or a channel, so that tests
//! walk it step by step over a fake kernel; [`driver`] gives it both.

mod agenda;
mod answers;
mod audit;
mod backoff;
mod carry;
mod draining;
pub mod driver;
mod first;
mod flows;
mod followed;
mod health;
mod host;
mod hour;
mod loads;
mod node;
mod other_proxies;
pub mod others;
mod ownership;
mod pending;
pub mod refusals;
pub mod report;
pub mod reporter;
mod schedulers;
mod slices;
mod told;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use kube_ipvs_core::diff::{Owned, Terms, Touched, diff, diff_touched};
use kube_ipvs_core::drain::Drain;
use kube_ipvs_core::model::Model;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::{Front, KernelState, VirtualServerKey};
use kube_ipvs_core::{Change, Cluster, Event};
use kube_ipvs_dataplane::progress::Progress;
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::{Dataplane, Observed};

use carry::Scope;
use followed::Followed;
use host::KnownHost;
use ownership::Ownership;
use refusals::Refusals;

pub use backoff::Backoff;
pub use report::{Drift, Round, Trigger};

/// What was being done when the kernel would not be read.
const READ: &str = "read the kernel's state";

/// Brings the kernel to what the cluster says and keeps it there.
pub struct Syncer<D> {
    cluster: Cluster,
    dataplane: D,
    ownership: Ownership,
    /// What the kernel holds as far as we know; none when we must look first.
    known: Option<Model>,
    /// What the rolling audit reads next.
    piece: walk::Piece,
    /// Tables were made anew with less than is known of them: whatever is next,
    /// they come before.
    overtaken: bool,
    /// Whether it reads the VIPs.
    vips: Followed,
    /// How it goes through the real servers.
    walk: walk::Walk,
    drain: Drain,
    /// What has been compiled and not been carried out.
    slices: slices::Slices,
    /// When draining is to be looked at again, in milliseconds.
    drain_due: Option<u64>,
    host: KnownHost,
    schedulers: schedulers::Answers,
    /// Fronts whose flows may lead to real servers that are gone.
    stale: BTreeSet<Front>,
    seed: u64,
    /// What the kernel refuses, and plans are made around.
    refusals: Refusals,
    /// Whether what the kernel held before the start was taken in.
    resumed: bool,
    /// How far a long round is.
    progress: Progress,
    others: others::Others,
}

impl<D: Dataplane> Syncer<D> {
    /// A syncer that knows nothing of the kernel yet. Draining real servers are
    /// removed after `drain_timeout`, whatever connections they have.
    pub fn new(
        cluster: Cluster,
        dataplane: D,
        record: RecordFile,
        drain_timeout: Duration,
    ) -> Self {
        let timeout = u64::try_from(drain_timeout.as_millis()).unwrap_or(u64::MAX);
        Self {
            seed: kube_ipvs_core::seed(&cluster.options().node_name),
            cluster,
            dataplane,
            ownership: Ownership::new(record),
            known: None,
            piece: walk::Piece::default(),
            overtaken: false,
            vips: Followed::default(),
            walk: walk::Walk::default(),
            drain: Drain::new(timeout),
            slices: slices::Slices::default(),
            drain_due: None,
            host: KnownHost::default(),
            schedulers: schedulers::Answers::default(),
            stale: BTreeSet::new(),
            refusals: Refusals::default(),
            resumed: false,
            progress: Progress::default(),
            others: others::Others::default(),
        }
    }

    /// Tells there how far a long round is.
    pub fn telling(mut self, progress: Progress) -> Self {
        self.dataplane.tell(progress.clone());
        self.progress = progress;
        self
    }

    /// Reads all real servers in so many passes of the audit, instead of in as
    /// many as their number asks for.
    pub fn real_servers_in_passes(mut self, passes: u32) -> Self {
        self.walk = walk::Walk::in_passes(passes);
        self
    }

    /// Takes in what a source saw.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Unchecked(addresses) => self.unchecked(addresses),
            other => {
                let unknown = self.cluster.unknown().clone();
                self.cluster.apply(other);
                if *self.cluster.unknown() != unknown {
                    // What was kept may go now, and nothing else says what that is.
                    self.known = None;
                }
            }
        }
    }

    /// What the kernel should hold: what is desired, and as long as anything
    /// could not be read also what it holds of that.
    fn wanted<'a>(&'a self, observed: &KernelState) -> Cow<'a, KernelState> {
        let desired = self.cluster.desired();
        let unknown = self.cluster.unknown();
        if unknown.is_nothing() {
            return Cow::Borrowed(desired);
        }
        let recorded = |key: &VirtualServerKey| self.ownership.service_of(key);
        let wanted = |key: &VirtualServerKey| Some(self.cluster.service_of(key)?.service);
        Cow::Owned(unknown.keep(desired, observed, recorded, wanted))
    }

    /// What the kernel holds as far as is known.
    pub fn known(&self) -> Option<&KernelState> {
        self.known.as_ref().map(Model::state)
    }

    /// The cluster as it is known.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The kernel's side.
    pub fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// What we own.
    pub fn record(&mut self) -> &mut RecordFile {
        self.ownership.record()
    }

    /// Forgets what is known of the kernel: the next round looks first.
    pub fn distrust(&mut self) {
        self.known = None;
    }

    /// Carries out what changed since the last round. Costs as much as that,
    /// unless the kernel has to be read first. `now` is in milliseconds, on a
    /// clock that never goes back.
    ///
    /// None before every source has given its first full list.
    ///
    /// # Errors
    /// When the kernel cannot be read, or the ownership record not written:
    /// nothing was changed then.
    pub fn sync(&mut self, now: u64) -> anyhow::Result<Option<Round>> {
        if !self.cluster.synced() {
            return Ok(None);
        }
        self.cluster.tick(now);
        if self.known.is_none() {
            return self.audit(now, Trigger::Change).map(Some);
        }
        self.ask_for_schedulers();
        let touched = self.next_slice();
        Ok(Some(self.carry_out_touched(now, touched, Trigger::Change)))
    }

    /// Reads the whole kernel and repairs whatever differs from what it should
    /// hold. A rolling audit begins anew.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn audit(&mut self, now: u64, trigger: Trigger) -> anyhow::Result<Round> {
        let (observed, sysctls) = self.observe()?;
        self.overtaken = false;
        self.look_first(&observed)?;
        self.ask_for_schedulers();
        self.cluster.tick(now);
        if !self.resumed {
            self.cluster.resume(&observed.state);
        }
        let drift = match self.known.take() {
            Some(known) => {
                let drift = self.drift(known.state(), &observed.state, sysctls);
                if !drift.is_empty() {
                    self.beware(known.state(), &observed.state);
                }
                drift
            }
            None => Drift::new(),
        };
        let observed = self.serve_first(now, observed)?;
        let mut touched = self.all_slices();
        self.cluster.resumed();
        self.resumed = true;
        self.look_at_drain(now, &observed);
        self.ownership.settle(&self.cluster, &observed.state);
        self.refusals
            .release(now, self.cluster.desired(), &observed.state, &mut touched);
        let mut known = Model::new(observed.state);
        let desired = self.cluster.desired();
        known.share(desired, desired.virtual_servers.keys());
        self.known = Some(known);
        self.piece = walk::Piece::default();
        self.vips.read();
        self.walk.start_over(!drift.is_empty());
        let round = self.carry_out(now, Scope::Everything, trigger);
        // What serves comes first.
        self.look_for_others();
        Ok(Round { drift, ..round })
    }

    /// What a sync would change now, without changing anything. `now` as for
    /// [`Self::sync`].
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn plan(&mut self, now: u64) -> anyhow::Result<Plan> {
        let observed = self.look_at_all()?;
        self.look_first(&observed)?;
        self.ask_for_schedulers();
        self.cluster.resume(&observed.state);
        self.cluster.compile();
        self.look_at_drain(now, &observed);
        Ok(diff(
            &self.wanted(&observed.state),
            &observed.state,
            &self.terms(self.ownership.all()),
        ))
    }

    /// What the kernel refuses at the moment.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// When [`Self::sync`] tries again what was refused, in milliseconds.
    pub fn retry_due(&self) -> Option<u64> {
        self.refusals.due()
    }

    /// It is so late on the syncer's clock, and this on everybody's.
    pub fn tell_time(&mut self, now: u64, wall: jiff::Timestamp) {
        self.cluster.tell_time(now, wall);
    }

    /// When [`Self::sync`] has something to do that comes with time alone, in
    /// milliseconds: new endpoints get more, addresses go.
    pub fn step_due(&self) -> Option<u64> {
        self.known.is_some().then(|| self.cluster.step_due())?
    }

    /// Whether the ownership record names a virtual server.
    pub fn owns(&self, key: &VirtualServerKey) -> bool {
        self.ownership.holds(key)
    }

    /// What the kernel holds, and how many sysctls had to be set.
    fn observe(&mut self) -> anyhow::Result<(Observed, u64)> {
        let observed = self.look_at_all()?;
        let sysctls = self.prepare(&observed)?;
        Ok((observed, sysctls))
    }

    fn look_at_all(&mut self) -> anyhow::Result<Observed> {
        let mut observed = self.dataplane.observe().context(READ)?;
        let ours = self.ownership.keys();
        observed.complete(&mut self.dataplane, ours).context(READ)?;
        Ok(observed)
    }

    /// Makes the ground sure; gives how many settings of the host were not as
    /// they must be.
    fn prepare(&mut self, observed: &Observed) -> anyhow::Result<u64> {
        let prepared = self.dataplane.prepare(observed)?;
        Ok(self.ownership.changed(prepared))
    }

    /// What somebody else did to ours since we last knew, counted by the
    /// operation that undoes it.
    fn drift(&self, known: &KernelState, observed: &KernelState, sysctls: u64) -> Drift {
        let mut touched = Touched::between(known, observed);
        touched
            .virtual_servers
            .retain(|key| self.ownership.holds(key));
        let undo = diff_touched(known, observed, &touched, &Terms::default());
        let mut drift = report::counts(&undo);
        if sysctls > 0 {
            drift.insert("set-sysctl".to_owned(), sysctls);
        }
        drift
    }

    fn terms(&self, owned: Owned) -> Terms {
        Terms {
            owned,
            drained: self.drain.drained().clone(),
            kept: self.drain.kept().clone(),
            seed: self.seed,
            refused: self.refusals.refused().clone(),
        }
    }

    /// The kernel is where this led; when the model disagrees, the next round
    /// looks first.
    fn learn(&mut self, done: &Plan) {
        let desired = self.cluster.desired();
        let agrees = |model: &mut Model| {
            // Operations on one virtual server follow each other: what is shared
            // at once is there twice for no longer than it is being made.
            let mut of_one = done
                .ops
                .chunk_by(|one, next| server_of(one) == server_of(next));
            of_one.all(|ops| {
                let made = ops.iter().all(|op| model.step(op).is_ok());
                model.share(desired, &ops.first().and_then(server_of));
                made
            })
        };
        if !self.known.as_mut().is_none_or(agrees) {
            self.known = None;
        }
    }
}

/// The virtual server that an operation changes.
fn server_of(op: &Op) -> Option<VirtualServerKey> {
    Change::of(op)?.virtual_server()
}

#[cfg(test)]
mod tests;

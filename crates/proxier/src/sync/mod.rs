//! One round after another: compile what changed, plan, apply, learn.
//!
//! [`Syncer`] is the whole of it without a clock or a channel, so that tests
//! walk it step by step over a fake kernel; [`driver`] gives it both.

mod answers;
mod audit;
mod backoff;
mod carry;
pub mod driver;
mod hour;
mod loads;
mod node;
pub mod others;
pub mod refusals;
pub mod report;
pub mod reporter;
mod schedulers;
mod slices;
mod told;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use kube_ipvs_core::diff::{Owned, Terms, Touched, diff, diff_touched};
use kube_ipvs_core::drain::Drain;
use kube_ipvs_core::model::Model;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::row::Row;
use kube_ipvs_core::state::{
    Family, Front, KernelState, Protocol, RealServerKey, VirtualServerKey,
};
use kube_ipvs_core::{Change, Cluster, Event, HealthCheck, HostAddress, ServiceName, Unknown};
use kube_ipvs_dataplane::progress::Progress;
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::{ApplyReport, Cleaned, Dataplane, Nature, Observed, Refusal};

use carry::Scope;
use loads::Loads;
use refusals::{Refusals, Subject};

pub use backoff::Backoff;
pub use report::{Drift, Round, Trigger};

/// The API server: with DNS what everything else on a node waits for.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// What was being done when the kernel would not be read.
const READ: &str = "read the kernel's state";

/// Brings the kernel to what the cluster says and keeps it there.
pub struct Syncer<D> {
    cluster: Cluster,
    dataplane: D,
    record: RecordFile,
    /// What the kernel holds as far as we know; none when we must look first.
    known: Option<Model>,
    /// What the rolling audit reads next.
    piece: audit::Piece,
    /// Tables were made anew with less than is known of them: whatever is next,
    /// they come before.
    overtaken: bool,
    /// How it goes through the real servers.
    walk: audit::Walk,
    drain: Drain,
    /// What has been compiled and not been carried out.
    slices: slices::Slices,
    /// When draining is to be looked at again, in milliseconds.
    drain_due: Option<u64>,
    /// None before they could be read once.
    host: Option<Vec<HostAddress>>,
    gateways: BTreeSet<IpAddr>,
    /// Addresses that sources could not check.
    unchecked: BTreeSet<IpAddr>,
    /// VIPs that a previous run left, as far as they have stayed: that one had
    /// checked them.
    inherited: Option<BTreeSet<IpAddr>>,
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
            record,
            known: None,
            piece: audit::Piece::default(),
            overtaken: false,
            walk: audit::Walk::default(),
            drain: Drain::new(timeout),
            slices: slices::Slices::default(),
            drain_due: None,
            host: None,
            gateways: BTreeSet::new(),
            unchecked: BTreeSet::new(),
            inherited: None,
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
        self.walk = audit::Walk::in_passes(passes);
        self
    }

    /// Takes in what a source saw.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Unchecked(addresses) => {
                self.unchecked = addresses;
                self.uncheck();
            }
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
        let ours = &self.record.record().virtual_servers;
        let recorded = |key: &VirtualServerKey| {
            let port = ours.get(key)?;
            let service = port.split(':').next().unwrap_or_default();
            let (namespace, name) = service.split_once('/').unwrap_or_default();
            Some(ServiceName::new(namespace, name))
        };
        let wanted = |key: &VirtualServerKey| Some(self.cluster.service_of(key)?.service);
        Cow::Owned(unknown.keep(desired, observed, recorded, wanted))
    }

    /// Tells the cluster of this host's addresses and gateways; true when they
    /// differ from what was known.
    ///
    /// # Errors
    /// When they could not be read whole. The last known ones stay in force.
    pub fn look_at_host(&mut self) -> anyhow::Result<bool> {
        let host = self.dataplane.host_addresses()?;
        let gateways = self.dataplane.gateways()?;
        let changed = self.host.as_ref() != Some(&host) || gateways != self.gateways;
        if changed {
            self.host = Some(host.clone());
            self.gateways = gateways.clone();
            self.cluster.apply(Event::HostAddresses(host));
            self.cluster.apply(Event::Gateways(gateways));
        }
        Ok(changed)
    }

    /// Tells the cluster what the host itself listens on, when Services took
    /// ports of it since the last look or it is time for one; true when a
    /// Service has something to hear of it. It decides warnings, and which fronts
    /// at addresses of links of the host are left to it: what cannot be read
    /// changes nothing.
    pub fn look_at_listeners(&mut self, due: bool) -> bool {
        if !self.cluster.take_new_host_ports() && !due {
            return false;
        }
        match self.dataplane.listeners(&self.cluster.host_ports()) {
            Ok(listeners) => self.cluster.apply(Event::Listeners(listeners)),
            Err(error) => tracing::debug!(
                error = format!("{error:#}"),
                "what this host listens on is not known"
            ),
        }
        self.cluster.is_dirty()
    }

    /// What nobody could check does not become a VIP, but what is one stays one:
    /// a list of Nodes that fails is no reason to cut clients off.
    fn uncheck(&mut self) {
        let inherited = self.inherited.take();
        let left = inherited.map(|vips| match self.known() {
            Some(known) => &vips & &known.vips,
            None => vips,
        });
        let unchecked = match &left {
            Some(vips) => &self.unchecked - vips,
            None => self.unchecked.clone(),
        };
        self.inherited = left;
        self.cluster.apply(Event::Unchecked(unchecked));
    }

    /// Nothing is decided before the host has been looked at, and its VIPs.
    fn look_first(&mut self, observed: &Observed) -> anyhow::Result<()> {
        if self.host.is_none() {
            self.look_at_host().context("read this host's addresses")?;
        }
        if self.inherited.is_none() {
            self.inherited = Some(observed.state.vips.clone());
            self.uncheck();
        }
        Ok(())
    }

    /// What the kernel holds as far as is known.
    pub fn known(&self) -> Option<&KernelState> {
        self.known.as_ref().map(Model::state)
    }

    /// Whether an address should be bound to our link.
    pub fn expects(&self, vip: IpAddr) -> bool {
        self.known().is_none_or(|state| state.vips.contains(&vip))
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
        &mut self.record
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
        self.settle_record(&observed.state);
        self.refusals
            .release(now, self.cluster.desired(), &observed.state, &mut touched);
        let mut known = Model::new(observed.state);
        let desired = self.cluster.desired();
        known.share(desired, desired.virtual_servers.keys());
        self.known = Some(known);
        self.piece = audit::Piece::default();
        self.walk.start_over();
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
        let observed = self.dataplane.observe().context(READ)?;
        self.look_first(&observed)?;
        self.ask_for_schedulers();
        self.cluster.resume(&observed.state);
        self.cluster.compile();
        self.look_at_drain(now, &observed);
        Ok(diff(
            &self.wanted(&observed.state),
            &observed.state,
            &self.terms(self.owned()),
        ))
    }

    /// Lets go of draining real servers that have nothing left to do.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn drain(&mut self, now: u64) -> anyhow::Result<Option<Round>> {
        if self.known.is_none() {
            return Ok(None);
        }
        let round = self.carry_out_touched(now, Touched::default(), Trigger::Change);
        Ok((!round.plan.is_empty()).then_some(round))
    }

    /// What the kernel refuses at the moment.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Health-check node ports as they are to be answered: of a Service that is
    /// closed here for a refusal, a load balancer should go to other nodes.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        let mut checks = self.cluster.health_checks();
        let closed = self.closed();
        for check in &mut checks {
            if closed.contains(&check.service) {
                check.local_endpoints = 0;
            }
        }
        checks
    }

    /// Services with a virtual server that is wanted, refused, and not there.
    fn closed(&self) -> BTreeSet<ServiceName> {
        let known = self.known().map(|state| &state.virtual_servers);
        let is_there = |key: &VirtualServerKey| known.is_some_and(|all| all.contains_key(key));
        let refused = self.refusals.iter();
        let refused = refused.filter_map(|(subject, _)| match subject {
            Subject::Change(change) => change.virtual_server(),
            Subject::Flows(_) => None,
        });
        let wanted = &self.cluster.desired().virtual_servers;
        let missing = refused.filter(|key| wanted.contains_key(key) && !is_there(key));
        missing
            .filter_map(|key| Some(self.cluster.service_of(&key)?.service))
            .collect()
    }

    /// When [`Self::sync`] tries again what was refused, in milliseconds.
    pub fn retry_due(&self) -> Option<u64> {
        self.refusals.due()
    }

    /// When [`Self::drain`] is due, in milliseconds.
    pub fn drain_due(&self) -> Option<u64> {
        self.known.is_some().then_some(self.drain_due).flatten()
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
        self.record.record().virtual_servers.contains_key(key)
    }

    /// How many real servers of a family drain.
    pub fn draining(&self, family: Family) -> usize {
        self.drain.waiting(family)
    }

    /// What the kernel holds, and how many sysctls had to be set.
    fn observe(&mut self) -> anyhow::Result<(Observed, u64)> {
        let observed = self.dataplane.observe().context(READ)?;
        let sysctls = self.prepare(&observed)?;
        Ok((observed, sysctls))
    }

    /// Makes the ground sure; gives how many sysctls had to be set. What they
    /// were before is written down at once: after a kill nobody could tell.
    /// That it cannot be written is told by the round, which tries again.
    fn prepare(&mut self, observed: &Observed) -> anyhow::Result<u64> {
        let prepared = self.dataplane.prepare(observed)?;
        let mut sysctls = prepared.sysctls.len() as u64;
        self.record.add_sysctls(prepared.sysctls);
        if let Some(changed) = prepared.timeouts {
            self.record.add_timeouts(changed);
            // They would be sysctls, had IPVS not a request of its own for them.
            sysctls += 1;
        }
        if let Err(error) = self.record.flush() {
            tracing::debug!(error = format!("{error:#}"), "tried again with the round");
        }
        Ok(sysctls)
    }

    /// What somebody else did to ours since we last knew, counted by the
    /// operation that undoes it.
    fn drift(&self, known: &KernelState, observed: &KernelState, sysctls: u64) -> Drift {
        let ours = &self.record.record().virtual_servers;
        let mut touched = Touched::between(known, observed);
        touched.virtual_servers.retain(|key| ours.contains_key(key));
        let undo = diff_touched(known, observed, &touched, &Terms::default());
        let mut drift = report::counts(&undo);
        if sysctls > 0 {
            drift.insert("set-sysctl".to_owned(), sysctls);
        }
        drift
    }

    /// Carries out the Services that the rest of the node waits for, when they
    /// changed, before thousands of others are compiled (a cold start). Gives
    /// what the kernel holds then, which is only read again where that is not
    /// known.
    fn serve_first(&mut self, now: u64, mut observed: Observed) -> anyhow::Result<Observed> {
        let mut first = vec![ServiceName::new(API_SERVER.0, API_SERVER.1)];
        first.extend(self.cluster.resolvers().cloned());
        let mut touched = Touched::default();
        for name in &first {
            touched.extend(self.cluster.compile_first(name));
        }
        let terms = self.terms(self.owned_among(&touched.virtual_servers));
        let wanted = self.wanted(&observed.state);
        let plan = diff_touched(&wanted, &observed.state, &touched, &terms);
        if plan.is_empty() {
            return Ok(observed);
        }
        self.known = Some(Model::new(observed.state));
        let round = self.carry_out(now, Scope::Only(touched), Trigger::Start);
        round.log();
        match self.known.take().filter(|_| round.is_clean()) {
            Some(known) => observed.state = known.into_state(),
            None => observed = self.observe()?.0,
        }
        Ok(observed)
    }

    /// Whether anything may go at all: not before a list has been whole.
    fn may_drain(&self) -> bool {
        *self.cluster.unknown() != Unknown::Everything
    }

    /// Looks at draining real servers with the counts of a fresh observation.
    fn look_at_drain(&mut self, now: u64, observed: &Observed) {
        if !self.may_drain() {
            return;
        }
        let ours = self.record.record().virtual_servers.keys();
        let wanted = self.cluster.desired().virtual_servers.keys();
        let touched = Touched {
            virtual_servers: ours.chain(wanted).copied().collect(),
            ..Touched::default()
        };
        let step = self
            .drain
            .step(now, &self.cluster, &observed.state, &touched, |key| {
                loads::observed(observed, key)
            });
        self.drain_due = step.next;
    }

    fn carry_out_touched(&mut self, now: u64, mut touched: Touched, trigger: Trigger) -> Round {
        let known = self.known.as_ref().expect("the callers made sure").state();
        if self.may_drain() {
            let mut loads = Loads::of(&mut self.dataplane);
            let step = self.drain.step(now, &self.cluster, known, &touched, |key| {
                loads.of_server(key)
            });
            self.drain_due = step.next;
            touched.extend(step.touched);
        }
        self.refusals
            .release(now, self.cluster.desired(), known, &mut touched);
        self.carry_out(now, Scope::Only(touched), trigger)
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

    fn owned(&self) -> Owned {
        Owned::These(
            self.record
                .record()
                .virtual_servers
                .keys()
                .copied()
                .collect(),
        )
    }

    fn owned_among(&self, keys: &BTreeSet<VirtualServerKey>) -> Owned {
        let ours = &self.record.record().virtual_servers;
        Owned::These(
            keys.iter()
                .filter(|key| ours.contains_key(key))
                .copied()
                .collect(),
        )
    }

    /// Records what is about to be made, and with which Service's name; gives
    /// what must not be made since it could not be recorded.
    fn claim(&mut self, stage: &Plan) -> Vec<Refusal> {
        for op in &stage.ops {
            let (Op::AddVirtualServer(key, _) | Op::EditVirtualServer(key, _)) = op else {
                continue;
            };
            let found = matches!(op, Op::EditVirtualServer(..));
            self.own(key, found);
        }
        let Err(error) = self.record.flush() else {
            return Vec::new();
        };
        let unwritten = self.record.unwritten();
        let unrecorded = stage.ops.iter().filter_map(|op| match op {
            Op::AddVirtualServer(key, _) if unwritten.contains(key) => {
                Some(Change::AddVirtualServer(*key))
            }
            _ => None,
        });
        let refusal = |change| Refusal {
            kind: "record",
            change: Some(change),
            nature: Nature::Whole,
            error: format!("{error:#}"),
        };
        unrecorded.map(refusal).collect()
    }

    /// Writes what is to be recorded; what could not be is tried again with the
    /// next round.
    fn flush_record(&mut self) -> Option<Refusal> {
        let error = self.record.flush().err()?;
        let error = format!("{error:#}");
        Some(Refusal::general("record", Nature::Whole, error))
    }

    /// Puts a virtual server that a Service wants in the record. One that was
    /// found in an excluded network is somebody else's and stays that.
    fn own(&mut self, key: &VirtualServerKey, found: bool) {
        let known = self.record.record().virtual_servers.contains_key(key);
        if found && !known && self.cluster.options().excludes(key) {
            return;
        }
        let service = self.cluster.service_of(key).map(|name| name.to_string());
        self.record.add(*key, service.unwrap_or_default());
    }

    /// Records whatever we want, also what was found as it should be: a virtual
    /// server that was there before us is ours from now on, unless its network
    /// is excluded. Strikes out what is
    /// neither wanted nor there, so that it is nobody's if it comes up again.
    fn settle_record(&mut self, observed: &KernelState) {
        let desired: Vec<_> = self
            .cluster
            .desired()
            .virtual_servers
            .keys()
            .copied()
            .collect();
        for key in &desired {
            self.own(key, observed.virtual_servers.contains_key(key));
        }
        let desired = &self.cluster.desired().virtual_servers;
        let ours = self.record.record().virtual_servers.keys();
        let gone: Vec<_> = ours
            .filter(|key| !desired.contains_key(key) && !observed.virtual_servers.contains_key(key))
            .copied()
            .collect();
        gone.iter().for_each(|key| self.record.remove(key));
    }

    /// Strikes out what is gone; what could not be removed stays ours.
    fn disclaim(&mut self, done: &Plan) {
        for op in &done.ops {
            if let Op::RemoveVirtualServer(key) = op {
                self.record.remove(key);
            }
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

    /// Deletes connection tracking entries of UDP and SCTP fronts whose real
    /// servers changed, so that no client is kept at one that is gone. What
    /// failed is tried again later, and with the next such change.
    fn forget_flows(&mut self, now: u64, plan: &Plan, report: &mut ApplyReport) {
        let stale = plan.ops.iter().flat_map(|op| self.stale_fronts(op));
        let stale: BTreeSet<_> = stale.filter(|f| f.protocol != Protocol::Tcp).collect();
        let is_new = |family| {
            stale
                .iter()
                .any(|front| Family::of(front.address) == family)
        };
        let families = [Family::V4, Family::V6].into_iter();
        let families = families
            .filter(|family| is_new(*family) || !self.refusals.holds(&Subject::Flows(*family)));
        let families: Vec<_> = families.collect();
        self.stale.extend(stale);
        for family in families {
            self.forget_flows_of(now, family, report);
        }
    }

    fn forget_flows_of(&mut self, now: u64, family: Family, report: &mut ApplyReport) {
        let stale = self.stale.iter();
        let stale = stale.filter(|front| Family::of(front.address) == family);
        let fronts: BTreeMap<_, _> = stale.map(|front| (*front, self.left(front))).collect();
        if fronts.is_empty() {
            return;
        }
        let begun = Instant::now();
        match self.dataplane.forget_flows(&fronts) {
            Ok(deleted) => {
                self.stale.retain(|front| !fronts.contains_key(front));
                self.refusals.over(&Subject::Flows(family));
                report.conntrack.push(Cleaned {
                    family,
                    took: begun.elapsed(),
                    deleted,
                });
            }
            Err(error) => {
                let error = format!("{error:#}");
                let refusal = Refusal::general("conntrack", Nature::Own, error);
                self.refusals
                    .hold(now, Subject::Flows(family), refusal.clone());
                report.refused.push(refusal);
            }
        }
    }

    /// The fronts for whose flows an operation left fewer ways.
    fn stale_fronts(&self, op: &Op) -> Vec<Front> {
        match op {
            Op::AddVirtualServer(key, _)
            | Op::RemoveVirtualServer(key)
            | Op::RemoveRealServer(key, _) => match key {
                VirtualServerKey::Front(front) => vec![*front],
                _ if self.cluster.protocol_of(key) == Some(Protocol::Tcp) => Vec::new(),
                VirtualServerKey::Mark { .. } => self.cluster.marked_with(key),
            },
            Op::Table(edit) => {
                let marks = |row: &Option<Row>| row.as_ref().map(|row| (row.inside, row.mark));
                let turns = edit.rows.iter();
                let led = turns.filter(|(_, turn)| {
                    let (from, to) = (marks(&turn.from), marks(&turn.to));
                    from.unwrap_or_default() != to.unwrap_or_default()
                });
                led.map(|(front, _)| *front).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The real servers that flows of a front may lead to: those of its own
    /// virtual server, and those of its marks.
    fn left(&self, front: &Front) -> BTreeSet<RealServerKey> {
        let desired = self.cluster.desired();
        let row = desired.row(front).into_iter();
        let marked = row.flat_map(|row| row.by_marks(front));
        let keys = marked.chain([VirtualServerKey::Front(*front)]);
        let servers = keys.filter_map(|key| desired.virtual_servers.get(&key));
        let reals = servers.flat_map(|server| server.real_servers.keys().copied());
        reals.collect()
    }
}

/// The virtual server that an operation changes.
fn server_of(op: &Op) -> Option<VirtualServerKey> {
    Change::of(op)?.virtual_server()
}

#[cfg(test)]
mod tests;

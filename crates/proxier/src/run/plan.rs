//! `kube-ipvs plan`: what a sync would change, once or each time that changes.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use kube_ipvs_core::plan::{AsDiff, Plan};
use kube_ipvs_core::{Cluster, Event, Warning};
use kube_ipvs_vip::Notice;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout_at};

use super::{EVENT_QUEUE, Program, Source, all_was_read, prepared, sources, stop};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::streams::{self, Form};
use crate::sync::Syncer;
use kube_ipvs_dataplane::Dataplane;
use kube_ipvs_dataplane::linux::Linux;
use kube_ipvs_source::tasks::{Endings, Tasks};

/// How long a source may be silent before it has told everything once.
const SILENCE: Duration = Duration::from_secs(30);
/// And how long that may take in all.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two looks at the kernel, which does not tell when somebody changes it.
const PAUSE: Duration = Duration::from_secs(1);
/// A look takes no more than this part of the time.
const SHARE: u32 = 20;
/// What changes together is looked at together.
const QUIET: Duration = Duration::from_millis(100);

/// How a plan is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Showing {
    /// For programs.
    pub(crate) json: bool,
    /// Again whenever it changes, until a signal.
    pub(crate) watch: bool,
}

/// Shows what a sync would change, without changing it. Exit code 0 for nothing,
/// 2 for something; of several plans the last one counts.
///
/// # Errors
/// When something needed is missing, not everything could be read (then the plan
/// that is shown is that of the rest), or the API server does not tell.
pub(crate) fn plan(program: &Program, showing: Showing) -> anyhow::Result<ExitCode> {
    match &program.source {
        Source::Manifests(_) if !showing.watch => of_manifests(program, showing),
        _ => of_source(program, showing),
    }
}

fn of_manifests(program: &Program, showing: Showing) -> anyhow::Result<ExitCode> {
    let (syncer, unreadable) = prepared(program)?;
    let mut shown = Shown::new(syncer, |plan| show(plan, showing));
    shown.look()?;
    all_was_read(unreadable)?;
    Ok(shown.code())
}

/// By the sources of a daemon, which go on telling.
fn of_source(program: &Program, showing: Showing) -> anyhow::Result<ExitCode> {
    // Who only looks tells nobody of anything.
    let program = Program {
        events: false,
        ..program.clone()
    };
    let (runtime, asked) = stop::runtime(1)?;
    let mut syncer = program.syncer()?;
    syncer.look_at_host()?;
    let metrics = Metrics::new();
    let health = Health::new(
        program.families(),
        program.times.sync_period,
        metrics.clone(),
    );
    let (tasks, endings) = Tasks::new(runtime.handle().clone());
    let (events, received) = mpsc::channel(EVENT_QUEUE);
    let sources = sources::start(&runtime, &tasks, &program, events, &health, &metrics)?;
    let heard = Heard::new(received, endings, asked);
    let shown = Shown::new(syncer, |plan| show(plan, showing));
    let followed = follow(&program, shown, heard, &health, showing.watch);
    let code = runtime.block_on(followed);
    sources.stop();
    runtime.shutdown_background();
    let code = code?;
    all_was_read(health.not_ready().remove("manifests"))?;
    Ok(code)
}

/// What comes from outside of the loop.
pub(crate) struct Heard {
    events: mpsc::Receiver<Event>,
    endings: Endings,
    asked: watch::Receiver<bool>,
}

impl Heard {
    /// Events of the sources, the end of one of their tasks, and whether the end is
    /// asked for.
    pub(crate) fn new(
        events: mpsc::Receiver<Event>,
        endings: Endings,
        asked: watch::Receiver<bool>,
    ) -> Self {
        Self {
            events,
            endings,
            asked,
        }
    }

    /// The next event; none when the end is asked for.
    async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        tokio::select! {
            biased;
            _ = self.asked.wait_for(|asked| *asked) => Ok(None),
            name = self.endings.next() => anyhow::bail!("the task {name} has ended"),
            event = self.events.recv() => event.map(Some).context("every source has ended"),
        }
    }
}

async fn follow(
    program: &Program,
    mut shown: Shown<Linux, impl Show>,
    mut heard: Heard,
    health: &Health,
    watch: bool,
) -> anyhow::Result<ExitCode> {
    let setup = &program.setup;
    let changes = kube_ipvs_vip::watch(&setup.link, setup.binding);
    let mut changes = changes.context("watch the host's addresses")?;
    if !shown.wait_for_lists(&mut heard, health).await? {
        anyhow::bail!("ended before everything was listed once");
    }
    shown.look()?;
    while watch && !shown.unread {
        if !shown.wait(&mut heard, &mut changes).await? {
            break;
        }
        shown.look_again(|syncer| {
            *syncer.record() = program.record(syncer.dataplane())?;
            syncer.look_at_host().map(drop)
        });
    }
    Ok(shown.code())
}

/// Shows a plan; false when there is nobody left to read it.
pub(crate) trait Show: FnMut(&Plan) -> anyhow::Result<bool> {}

impl<F: FnMut(&Plan) -> anyhow::Result<bool>> Show for F {}

/// A syncer, and what of it has been shown.
pub(crate) struct Shown<D, F> {
    syncer: Syncer<D>,
    show: F,
    plan: Option<Plan>,
    warnings: BTreeSet<Warning>,
    /// Why the last look failed.
    failure: Option<String>,
    /// How long the last look took.
    took: Duration,
    /// Nobody reads what is shown any more.
    unread: bool,
    /// The zero of the syncer's clock.
    born: Instant,
}

impl<D: Dataplane, F: Show> Shown<D, F> {
    pub(crate) fn new(syncer: Syncer<D>, show: F) -> Self {
        Self {
            syncer,
            show,
            plan: None,
            warnings: BTreeSet::new(),
            failure: None,
            took: Duration::ZERO,
            unread: false,
            born: Instant::now(),
        }
    }

    /// That of what was shown last.
    pub(crate) fn code(&self) -> ExitCode {
        let something = self.plan.as_ref().is_some_and(|plan| !plan.is_empty());
        ExitCode::from(if something { 2 } else { 0 })
    }

    /// Takes events in until every kind was listed; false when the end is asked for.
    pub(crate) async fn wait_for_lists(
        &mut self,
        heard: &mut Heard,
        health: &Health,
    ) -> anyhow::Result<bool> {
        let end = tokio::time::Instant::now() + LONGEST;
        let mut deadline = tokio::time::Instant::now() + SILENCE;
        while !self.syncer.cluster().synced() {
            let Ok(next) = timeout_at(deadline.min(end), heard.next()).await else {
                let why = health.not_ready().remove("api");
                anyhow::bail!(
                    "the API server has not told everything in time: {}",
                    why.unwrap_or_else(|| unlisted(self.syncer.cluster()))
                );
            };
            let Some(event) = next? else {
                return Ok(false);
            };
            // That a list begins, again and again, is no progress.
            if !matches!(event, Event::ListStarted(_)) {
                deadline = tokio::time::Instant::now() + SILENCE;
            }
            self.syncer.event(event);
        }
        Ok(true)
    }

    /// Waits until it is time to look again; false when the end is asked for.
    pub(crate) async fn wait(
        &mut self,
        heard: &mut Heard,
        changes: &mut (impl Stream<Item = Notice> + Unpin),
    ) -> anyhow::Result<bool> {
        let rest = QUIET.max(self.took * (SHARE - 1));
        tokio::select! {
            event = heard.next() => match event? {
                Some(event) => self.syncer.event(event),
                None => return Ok(false),
            },
            Some(_) = changes.next() => {}
            () = sleep(PAUSE.max(rest)) => return Ok(true),
        }
        let quiet = tokio::time::Instant::now() + rest;
        while let Ok(event) = timeout_at(quiet, heard.next()).await {
            match event? {
                Some(event) => self.syncer.event(event),
                None => return Ok(false),
            }
        }
        // One look is for all that was told until now.
        while let Some(Some(_)) = changes.next().now_or_never() {}
        Ok(true)
    }

    /// Looks, with what else may have changed taken in first. What cannot be read
    /// now is told of, and looked at the next time.
    pub(crate) fn look_again(
        &mut self,
        refresh: impl FnOnce(&mut Syncer<D>) -> anyhow::Result<()>,
    ) {
        let looked = refresh(&mut self.syncer).and_then(|()| self.look());
        let failure = looked.err().map(|error| format!("{error:#}"));
        if failure != self.failure
            && let Some(why) = &failure
        {
            tracing::warn!("{why}; the plan that is shown may be out of date");
        }
        self.failure = failure;
    }

    /// Shows the plan of this moment, unless it was shown last.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.syncer.tell_time(now, Timestamp::now());
        let plan = self.syncer.plan(now)?;
        self.took = begun.elapsed();
        let warnings: BTreeSet<_> = self.syncer.cluster().warnings().into_iter().collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(object = %warning.object, "{}", warning.message);
        }
        self.warnings = warnings;
        if self.plan.as_ref() != Some(&plan) {
            self.unread = !(self.show)(&plan)?;
            self.plan = Some(plan);
        }
        Ok(())
    }
}

/// Shows a plan; false when there is nobody left to read it.
fn show(plan: &Plan, showing: Showing) -> anyhow::Result<bool> {
    if showing.json {
        let json = if showing.watch {
            serde_json::to_string(plan)
        } else {
            serde_json::to_string_pretty(plan)
        };
        let json = json.context("write JSON")?;
        return streams::print_to_reader(Form::Json, format_args!("{json}\n"));
    }
    let diff = AsDiff(plan);
    if !showing.watch {
        return streams::print_to_reader(Form::Text, diff);
    }
    let (now, many) = (Timestamp::now(), plan.lines().count());
    streams::print_to_reader(
        Form::Text,
        format_args!("# {now:.0} to change: {many}\n{diff}"),
    )
}

/// What a cluster waits for.
fn unlisted(cluster: &Cluster) -> String {
    let kinds: Vec<_> = cluster.awaited().map(|kind| kind.to_string()).collect();
    format!("{} not listed yet", kinds.join(", "))
}

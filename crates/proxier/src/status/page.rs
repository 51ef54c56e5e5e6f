//! The page: numbers, and what is wrong.

use std::fmt;

use jiff::Timestamp;
use kube_ipvs_core::escape::Escaped;
use serde::Serialize;

use super::Facts;
use super::wrong::{Wrong, chains, wrongs};
use crate::answers::{Held, LastRound, LoopReport, NodeReport};
use crate::explain::{Seen, plural};

/// All that is said, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    /// Of this form: 1.
    version: u32,
    /// Nothing is wrong.
    pub(super) well: bool,
    /// What is wrong now, and the remedies.
    wrong: Vec<Wrong>,
    /// What is worth knowing, or may be wrong and cannot be told.
    notes: Vec<String>,
    /// What the running daemon says; null where none answers.
    daemon: Option<NodeReport>,
    /// What the kernel holds of ours; null where that cannot be seen.
    kernel: Option<Held>,
    #[serde(skip)]
    now: Timestamp,
}

impl Page {
    pub(super) fn of(facts: &Facts) -> Self {
        Self::at(facts, Timestamp::now())
    }

    /// At this time.
    pub(super) fn at(facts: &Facts, now: Timestamp) -> Self {
        let wrong = wrongs(facts);
        let unsure = chains(&facts.seen, false).into_iter();
        let unsure = unsure.map(|Wrong { what, .. }| {
            format!("{what}, unless a rule of it lets them: see `kube-ipvs explain`")
        });
        let unjudged = facts.seen.unjudged.iter();
        let unjudged = unjudged.map(|what| format!("not judged: {what}"));
        let daemon = facts.told.as_ref().ok().cloned().flatten();
        let warnings = daemon.iter().flat_map(|told| &told.warnings);
        // That another proxy works here is among what is wrong.
        let warnings = warnings.filter(|(word, _)| *word != "other-proxy");
        let warnings: Vec<String> = warnings.map(|(_, text)| text.clone()).collect();
        Self {
            version: 1,
            well: wrong.is_empty(),
            wrong,
            notes: warnings.into_iter().chain(unsure).chain(unjudged).collect(),
            kernel: facts.blind.is_none().then(|| Held {
                draining: super::held(&facts.told).and_then(|held| held.draining),
                ..held_in(&facts.seen)
            }),
            daemon,
            now,
        }
    }
}

/// What the kernel holds of ours.
pub(super) fn held_in(seen: &Seen) -> Held {
    let servers = seen.state.virtual_servers.iter();
    let ours: Vec<_> = servers
        .filter(|(key, _)| seen.recorded.contains_key(key))
        .map(|(_, server)| server.real_servers.len())
        .collect();
    Held {
        virtual_servers: ours.len(),
        real_servers: ours.iter().sum(),
        draining: None,
        vips: seen.state.vips.union(&seen.routed).count(),
        rows: seen.state.table.rows.len(),
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.daemon {
            Some(told) => head(f, told, self.now)?,
            None => writeln!(f, "kube-ipvs  no daemon answers here")?,
        }
        match self.wrong.len() {
            0 => writeln!(f, "  state         well")?,
            1 => writeln!(f, "  state         1 thing is wrong")?,
            n => writeln!(f, "  state         {n} things are wrong")?,
        }
        for Wrong { what, remedy } in &self.wrong {
            writeln!(f, "  wrong         {}", Escaped(what))?;
            writeln!(f, "    to do       {}", Escaped(remedy))?;
        }
        for note in &self.notes {
            writeln!(f, "  note          {}", Escaped(note))?;
        }
        if let Some(told) = &self.daemon {
            source(f, told)?;
            if let Some(of_loop) = &told.of_loop {
                rounds(f, of_loop)?;
            }
        }
        match &self.kernel {
            Some(held) => kernel(f, held)?,
            None => writeln!(f, "  kernel        not seen")?,
        }
        match self.daemon.as_ref().and_then(|told| told.of_loop.as_ref()) {
            Some(of_loop) => services(f, of_loop),
            None => Ok(()),
        }
    }
}

/// `kube-ipvs 0.1.0 on node-1  running for 3 h 5 min, since …, process 17`.
fn head(f: &mut fmt::Formatter<'_>, told: &NodeReport, now: Timestamp) -> fmt::Result {
    let node = told.of_loop.as_ref().map(|of_loop| &of_loop.node);
    write!(f, "kube-ipvs {}", Escaped(&told.program))?;
    if let Some(node) = node {
        write!(f, " on {}", Escaped(node))?;
    }
    let seconds = now.duration_since(told.since).as_secs();
    let seconds = u64::try_from(seconds).unwrap_or_default();
    writeln!(
        f,
        "  running for {}, since {:.0}, process {}",
        Ago(seconds),
        told.since,
        told.pid
    )
}

fn source(f: &mut fmt::Formatter<'_>, told: &NodeReport) -> fmt::Result {
    write!(f, "  source        ")?;
    let behind = told.warnings.contains_key("api");
    match told.source_age_seconds {
        Some(0) if !behind => write!(f, "up to date")?,
        Some(age) => write!(f, "last heard {} ago", Ago(age))?,
        None => write!(f, "not heard yet")?,
    }
    if let Some(of_loop) = &told.of_loop {
        let LoopReport {
            services,
            endpoint_slices,
            ..
        } = of_loop;
        let slices = count(*endpoint_slices, "EndpointSlice");
        write!(f, ": {}, {slices}", count(*services, "Service"))?;
        if !of_loop.awaited.is_empty() {
            write!(f, "; awaited: {}", of_loop.awaited.join(", "))?;
        }
    }
    writeln!(f)?;
    match told.progress {
        Some(made) => writeln!(
            f,
            "  progress      {} of {} virtual servers are made",
            made.done, made.all
        ),
        None => Ok(()),
    }
}

fn rounds(f: &mut fmt::Formatter<'_>, of_loop: &LoopReport) -> fmt::Result {
    match &of_loop.last {
        Some(LastRound {
            trigger,
            seconds_ago,
            took_ms,
            changes,
            complete,
        }) => {
            let how = if *complete { "" } else { ", not complete" };
            write!(
                f,
                "  last sync     {} ago ({trigger}), took {took_ms} ms{how}",
                Ago(*seconds_ago)
            )?;
            if changes.is_empty() {
                writeln!(f)?;
            } else {
                writeln!(f, ": {}", Escaped(changes))?;
            }
        }
        None => writeln!(f, "  last sync     none yet")?,
    }
    let drift: Vec<String> = of_loop
        .drift
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    match &drift[..] {
        [] => writeln!(f, "  drift         none in the last hour")?,
        some => writeln!(
            f,
            "  drift         put back in the last hour: {}; `kube-ipvs check` names other proxies",
            Escaped(&some.join(", "))
        )?,
    }
    match of_loop.audit {
        Some(pace) => writeln!(
            f,
            "  audit         real servers within {}, all else within {}",
            Ago(pace.real_servers_seconds),
            Ago(pace.seconds)
        ),
        None => Ok(()),
    }
}

fn kernel(f: &mut fmt::Formatter<'_>, held: &Held) -> fmt::Result {
    let Held {
        virtual_servers,
        real_servers,
        draining,
        vips,
        rows,
    } = held;
    write!(
        f,
        "  kernel        {}, {}",
        count(*virtual_servers, "virtual server"),
        count(*real_servers, "real server")
    )?;
    if let Some(n @ 1..) = draining {
        write!(f, " ({n} drain)")?;
    }
    writeln!(f, ", {}, {}", count(*vips, "VIP"), count(*rows, "row"))
}

/// `1 row`, `2 rows`.
fn count(n: usize, noun: &str) -> String {
    format!("{n} {}", plural(n, noun))
}

fn services(f: &mut fmt::Formatter<'_>, of_loop: &LoopReport) -> fmt::Result {
    let fronts: Vec<String> = of_loop
        .fronts
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    if fronts.is_empty() {
        writeln!(f, "  fronts        none")?;
    } else {
        writeln!(f, "  fronts        {}", fronts.join(", "))?;
    }
    for refused in &of_loop.refused {
        let of = refused.service.as_deref().unwrap_or("no Service");
        writeln!(
            f,
            "  refused       {} ({}): {}",
            Escaped(&refused.what),
            Escaped(of),
            Escaped(&refused.error)
        )?;
    }
    more(f, "refused", of_loop.refused_count, of_loop.refused.len())?;
    for warning in &of_loop.warnings {
        writeln!(f, "  warning       {}", Escaped(warning))?;
    }
    more(f, "warning", of_loop.warning_count, of_loop.warnings.len())
}

fn more(f: &mut fmt::Formatter<'_>, what: &str, all: usize, shown: usize) -> fmt::Result {
    match all.saturating_sub(shown) {
        0 => Ok(()),
        n => writeln!(f, "  {what:<13} and {n} more"),
    }
}

/// `45 s`, `12 min`, `3 h 5 min`, `4 d 2 h`.
struct Ago(u64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0 / 60;
        let (hours, days) = (minutes / 60, minutes / 60 / 24);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, minutes) => write!(f, "{minutes} min"),
            (0, hours, minutes) => write!(f, "{hours} h {} min", minutes % 60),
            (days, hours, _) => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

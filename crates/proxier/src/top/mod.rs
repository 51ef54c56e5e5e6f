//! `kube-ipvs top`: who calls what, live. Counters, connections and weights are
//! the kernel's, names those that the daemon recorded; it needs no daemon, asks
//! nobody else but for names of pods, and changes nothing.
//!
//! `app` is the state and what a key or a look makes of it, `draw` puts it on any
//! screen, and only `terminal` knows what a terminal is.

mod app;
mod args;
mod draw;
mod once;
mod page;
mod pods;
mod rates;
mod rows;
mod source;
mod table;
mod terminal;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

pub use args::TopArgs;
pub use rates::Counts;
pub use rows::{Choice, Column, Level};
pub use source::{Kernel, Source};
pub use table::{Sample, Seen, Table};

use crate::pace::Pace;
use crate::pods::PodNames;
use crate::streams;
use crate::tool::Output;
use app::App;
use draw::draw;
use terminal::{Happened, Screen};

/// Shows or prints what the arguments ask for.
///
/// # Errors
/// A usage error without a terminal, or for arguments that make no sense together;
/// no IPVS, no right to read it, or a kernel that does not answer.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let choice = args.choice()?;
    if !args.once {
        terminal::required()?;
    }
    let mut kernel = Kernel::open(args.state_dir.clone())?.with_pods(args.pods());
    if args.once {
        once(args, &choice, &mut kernel)?;
    } else {
        show(choice, args.interval, &mut kernel)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn once(args: &TopArgs, choice: &Choice, source: &mut impl Source) -> anyhow::Result<()> {
    let mut table = Table::default();
    let first = source.look_at_all()?;
    let started = first.at;
    table.take(first);
    std::thread::sleep(args.interval);
    let second = source.look_at_all()?;
    let between = second.at.saturating_sub(started);
    table.take(second);
    table.pods = named(args, &table)?;
    match args.output {
        Output::Text => streams::print(once::text(&table, choice)),
        Output::Json => {
            let seconds = (between.as_secs_f64() * 1e3).round() / 1e3;
            streams::print_json(&once::document(&table, seconds, &choice.filter))
        }
    }
}

/// The pods of all Services in a table, where they are asked for.
fn named(args: &TopArgs, table: &Table) -> anyhow::Result<PodNames> {
    let servers = table.servers();
    let services: BTreeSet<_> = servers
        .filter_map(|(_, one)| one.service.as_deref().map(rows::object))
        .collect();
    if args.pods && services.is_empty() {
        let directory = args.state_dir.display();
        streams::complain(format_args!(
            "kube-ipvs: no names of pods: no daemon has recorded a Service in {directory}"
        ));
    }
    PodNames::asked(&args.pods(), &services)
}

/// Takes the terminal until the end is asked for.
///
/// # Errors
/// The first look came to nothing, or the terminal does not do what it is told.
pub fn show(choice: Choice, interval: Duration, source: &mut impl Source) -> anyhow::Result<()> {
    let mut app = App::new(choice);
    // What is wrong from the beginning is told where it stays.
    app.table.take(source.look(&app.table, &BTreeSet::new())?);
    // Caught before the terminal is taken over, so that it is always given back.
    let happened = terminal::listen()?;
    let mut screen = Screen::enter()?;
    let mut every = caption(interval, interval);
    let colours = terminal::colours();
    let mut next = Instant::now() + interval;
    // Of looks, and of the screens between them.
    let mut pace = Pace::of(interval);
    loop {
        if let Some((service, addresses)) = app.in_depth()
            && let Some(pods) = source.pods(service, &addresses)
        {
            app.name(pods);
        }
        let drawn = screen
            .terminal
            .draw(|frame| draw(frame, &mut app, &every, colours));
        drawn.context("draw")?;
        if !wait(&mut app, &happened, next) {
            return Ok(());
        }
        if Instant::now() >= next {
            if !app.frozen {
                app.take(source.look(&app.table, app.shown()));
            }
            let period = pace.period();
            every = caption(interval, period);
            // However long a look takes, there is time for keys before the next.
            next = Instant::now() + period;
        }
    }
}

/// How often there is a look.
fn caption(asked: Duration, period: Duration) -> String {
    let asked_for = asked.as_secs_f64();
    if period == asked {
        return format!("every {asked_for}s");
    }
    format!("every {:.1}s instead of {asked_for}s", period.as_secs_f64())
}

/// What a terminal would show, look after look, for tests and benchmarks.
#[derive(Debug)]
pub struct Screens<'a, S> {
    app: App,
    source: &'a mut S,
    terminal: Terminal<TestBackend>,
}

/// Screens of so many columns and lines. The first look is taken here: it reads all.
///
/// # Errors
/// The look came to nothing.
pub fn screens<S: Source>(
    choice: Choice,
    source: &mut S,
    (width, height): (u16, u16),
) -> anyhow::Result<Screens<'_, S>> {
    let mut app = App::new(choice);
    app.table.take(source.look(&app.table, &BTreeSet::new())?);
    let Ok(terminal) = Terminal::new(TestBackend::new(width, height));
    Ok(Screens {
        app,
        source,
        terminal,
    })
}

impl<S: Source> Screens<'_, S> {
    /// Takes the next look and gives what is shown then.
    ///
    /// # Errors
    /// The look came to nothing.
    pub fn look(&mut self) -> anyhow::Result<String> {
        let sample = self.source.look(&self.app.table, self.app.shown())?;
        self.app.table.take(sample);
        let app = &mut self.app;
        let Ok(_) = self
            .terminal
            .draw(|frame| draw(frame, app, "every 2s", true));
        Ok(self.terminal.backend().to_string())
    }
}

/// Waits for the next look, or for something that happens, and for all that
/// happened with it. Gives whether to go on.
fn wait(app: &mut App, happened: &Receiver<Happened>, next: Instant) -> bool {
    let patience = next.saturating_duration_since(Instant::now());
    let mut one = match happened.recv_timeout(patience) {
        Err(RecvTimeoutError::Disconnected) => return false,
        one => one.ok(),
    };
    while let Some(this) = one {
        match this {
            Happened::Key(key) => app.press(key),
            Happened::Resized => {}
            Happened::Ended => return false,
        }
        one = happened.try_recv().ok();
    }
    !app.ended
}

#[cfg(test)]
mod tests {
    use super::table::tests::{at, seen};
    use super::*;

    #[test]
    fn looks_that_are_rarer_than_asked_for_say_so() {
        let asked = Duration::from_secs(2);
        let dear = Duration::from_millis(7120);
        assert_eq!(caption(asked, asked), "every 2s");
        assert_eq!(caption(asked, dear), "every 7.1s instead of 2s");
    }

    #[test]
    fn pods_of_all_that_was_recorded_are_asked_for() {
        let mut args = parsed(&["--once", "--pods", "--kubeconfig", "/nowhere/kubeconfig"]);
        let mut table = Table::default();
        assert!(named(&args, &table).is_ok(), "nobody to name");
        table.take(at(0, vec![seen(1, "ns/web:http", None)]));
        let said = format!("{:#}", named(&args, &table).unwrap_err());
        assert!(said.contains("/nowhere/kubeconfig"), "{said}");
        args.pods = false;
        assert!(named(&args, &table).is_ok(), "not asked for");
    }

    fn parsed(words: &[&str]) -> TopArgs {
        #[derive(clap::Parser)]
        struct Top {
            #[command(flatten)]
            args: TopArgs,
        }
        let words = ["top"].iter().chain(words);
        <Top as clap::Parser>::parse_from(words).args
    }
}

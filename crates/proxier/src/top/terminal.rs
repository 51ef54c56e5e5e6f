//! A terminal: given back as it was found, however the program ends.

use std::io::{self, IsTerminal, Stdout, stdout};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context;
use crossterm::cursor::{Hide, Show};
use crossterm::event::{Event, KeyEvent, KeyEventKind};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use kube_ipvs_source::tasks::Tasks;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::usage::Usage;

/// What can happen at a terminal.
#[derive(Debug)]
pub(super) enum Happened {
    /// A key was pressed.
    Key(KeyEvent),
    /// Its size is another.
    Resized,
    /// The end was asked for by a signal, or the terminal is gone.
    Ended,
}

/// The terminal, ours until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    /// What is drawn on.
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// That there is one to read from and to write to.
///
/// # Errors
/// [`Usage`], with what to do without.
pub(super) fn required() -> Result<(), Usage> {
    if io::stdin().is_terminal() && stdout().is_terminal() {
        return Ok(());
    }
    let why = "top needs a terminal: `kube-ipvs top --once` prints a table, and \
               `kube-ipvs top --once -o json` is for programs";
    Err(Usage(why.to_owned()))
}

/// Whether colours may be used: not where <https://no-color.org> says so.
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// It does not do what it is told.
    pub(super) fn enter() -> anyhow::Result<Self> {
        leave_on_panic();
        enable_raw_mode().context("take the terminal over")?;
        // From here on it is given back, whatever fails.
        let given_back = GivenBack;
        execute!(stdout(), EnterAlternateScreen, Hide).context("take the terminal over")?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).context("draw")?;
        std::mem::forget(given_back);
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(GivenBack);
    }
}

/// Gives the terminal back when dropped.
struct GivenBack;

impl Drop for GivenBack {
    fn drop(&mut self) {
        leave();
    }
}

/// There is nobody to tell that a terminal does not want to be given back.
fn leave() {
    _ = execute!(stdout(), Show, LeaveAlternateScreen);
    _ = disable_raw_mode();
}

/// The message of a panic belongs on the screen as it was before.
fn leave_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        leave();
        tell(panic);
    }));
}

/// Everything that happens from now on, signals that ask for the end included.
///
/// # Errors
/// Signals cannot be caught, or there are no threads to be had.
pub(super) fn listen() -> anyhow::Result<Receiver<Happened>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catch signals")?;
    let (tell, told) = channel();
    let keys = tell.clone();
    Tasks::thread("keys", move || read_keys(&keys))?;
    Tasks::thread("signals", move || {
        // The first one is enough, and nobody may be there any more to hear of it.
        _ = signals.forever().next();
        _ = tell.send(Happened::Ended);
    })?;
    Ok(told)
}

/// Until nobody wants to hear of them, or the terminal is gone.
fn read_keys(tell: &Sender<Happened>) {
    loop {
        let happened = match crossterm::event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Happened::Key(key),
            Ok(Event::Resize(..)) => Happened::Resized,
            Ok(_) => continue,
            Err(_) => Happened::Ended,
        };
        let last = matches!(happened, Happened::Ended);
        if tell.send(happened).is_err() || last {
            return;
        }
    }
}

//! What is on the screen, and what a key makes of it. Knows no terminal, no
//! kernel and no clock.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ipvs_netlink::ServiceId;

use super::page::{Kind, Page, page};
use super::rows::{Choice, Column, Focus, Key, Level, Row, Sums, object, rows, total};
use super::table::{Sample, Table};
use crate::pods::PodNames;

/// What rows can be sorted by, in the order of `<` and `>`.
const COLUMNS: [Column; 12] = [
    Column::Name,
    Column::VirtualServers,
    Column::RealServers,
    Column::Weight,
    Column::Draining,
    Column::Active,
    Column::Inactive,
    Column::Connections,
    Column::InPackets,
    Column::OutPackets,
    Column::InBytes,
    Column::OutBytes,
];

/// The state of the program.
#[derive(Debug)]
pub(super) struct App {
    /// What is known of IPVS.
    pub(super) table: Table,
    /// Which of it is shown.
    pub(super) choice: Choice,
    /// Nothing is looked at anew.
    pub(super) frozen: bool,
    /// A filter is being typed.
    pub(super) typing: bool,
    /// The keys are explained instead.
    pub(super) help: bool,
    /// The end was asked for.
    pub(super) ended: bool,
    /// Why the last look came to nothing.
    pub(super) problem: Option<String>,
    /// Why the pods of what is looked at in depth have no names.
    pub(super) unnamed: Option<String>,
    /// The row that keys are about; none before there is one.
    selected: Option<Key>,
    /// Where it was, for when it is gone.
    position: usize,
    /// The first row on the screen.
    offset: usize,
    /// Rows that fit.
    height: usize,
    /// All rows, on the screen or not, as of the last time they were laid out.
    count: usize,
    /// Virtual servers on the screen, for the next look.
    shown: BTreeSet<ServiceId>,
}

/// What there is to draw.
#[derive(Debug)]
pub(super) struct Shown {
    /// The rows that fit.
    pub(super) page: Page,
    /// Which of them is selected.
    pub(super) selected: Option<usize>,
    /// All rows, on the screen or not.
    pub(super) rows: usize,
    /// Sums over everything.
    pub(super) total: Sums,
}

impl App {
    /// One that shows what is chosen, and knows nothing yet.
    pub(super) fn new(choice: Choice) -> Self {
        Self {
            table: Table::default(),
            choice,
            frozen: false,
            typing: false,
            help: false,
            ended: false,
            problem: None,
            unnamed: None,
            selected: None,
            position: 0,
            offset: 0,
            height: 0,
            count: 0,
            shown: BTreeSet::new(),
        }
    }

    /// Takes a look in.
    pub(super) fn take(&mut self, look: anyhow::Result<Sample>) {
        match look {
            Ok(sample) => {
                self.problem = None;
                self.table.take(sample);
            }
            // What is shown is what was true; the next look may succeed.
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
    }

    /// What is looked at in depth, with the addresses of its real servers.
    pub(super) fn in_depth(&self) -> Option<(Option<&str>, BTreeSet<IpAddr>)> {
        let Focus(service) = self.choice.focus.as_ref()?;
        let service = service.as_deref();
        let servers = self.table.servers();
        let its = servers.filter(|(_, one)| one.service.as_deref().map(object) == service);
        let addresses = its.flat_map(|(_, one)| one.real_servers.keys().map(|id| id.address));
        Some((service, addresses.collect()))
    }

    /// Takes names of its pods, or why there are none. Names from before stay.
    pub(super) fn name(&mut self, pods: anyhow::Result<PodNames>) {
        match pods {
            Ok(pods) => {
                self.unnamed = None;
                self.table.pods = pods;
            }
            Err(error) => self.unnamed = Some(format!("{error:#}")),
        }
    }

    /// The virtual servers whose real servers are on the screen, or are part of it.
    pub(super) fn shown(&self) -> &BTreeSet<ServiceId> {
        &self.shown
    }

    /// What the rows are.
    pub(super) fn kind(&self) -> Kind {
        match self.choice.focus {
            Some(_) => Kind::Depth,
            None => Kind::Level(self.choice.level),
        }
    }

    /// Lays out so many lines of so many characters, with the selected one among them.
    pub(super) fn lay_out(&mut self, width: usize, height: usize) -> Shown {
        self.height = height.max(1);
        let rows = rows(&self.table, &self.choice);
        let position = position(&rows, self.selected.as_ref(), self.position);
        let last_page = rows.len().saturating_sub(self.height);
        let lowest = (position + 1).saturating_sub(self.height);
        let offset = self
            .offset
            .clamp(lowest, position.max(lowest))
            .min(last_page);
        let end = rows.len().min(offset + self.height);
        let visible = &rows[offset..end];
        let shown = Shown {
            page: page(visible, self.kind(), Some(width)),
            selected: (!visible.is_empty()).then(|| position - offset),
            rows: rows.len(),
            total: total(&self.table),
        };
        // Who is at the top stays there, whoever that is.
        let held = rows.get(position).filter(|_| position > 0);
        let selected = held.map(Row::key);
        let on_screen = self.servers_of(visible);
        self.shown = on_screen;
        self.count = shown.rows;
        self.selected = selected;
        self.position = position;
        self.offset = offset;
        shown
    }

    fn servers_of(&self, rows: &[Row<'_>]) -> BTreeSet<ServiceId> {
        if self.kind() != Kind::Level(Level::Services) {
            return rows.iter().filter_map(|row| row.server).copied().collect();
        }
        let services: BTreeSet<_> = rows.iter().filter_map(|row| row.service).collect();
        let its = |service: &str| services.contains(object(service));
        let servers = self.table.servers();
        servers
            .filter(|(_, server)| server.service.as_deref().is_some_and(its))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            self.ended = true;
        } else if self.help {
            self.help = false;
        } else if self.typing {
            self.type_filter(key.code);
        } else if !control {
            self.command(key.code);
        }
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(character) => self.choice.filter.push(character),
            KeyCode::Backspace => drop(self.choice.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.choice.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    fn command(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.ended = true,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char(' ' | 'f') => self.frozen = !self.frozen,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('1') => self.level(Level::Services),
            KeyCode::Char('2') => self.level(Level::VirtualServers),
            KeyCode::Char('3') => self.level(Level::RealServers),
            KeyCode::Tab => self.level(after(self.choice.level)),
            KeyCode::Char('r') => self.choice.reversed = !self.choice.reversed,
            KeyCode::Char('<') | KeyCode::Left => self.sort(COLUMNS.len() - 1),
            KeyCode::Char('>') | KeyCode::Right => self.sort(1),
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.leave(),
            _ => self.travel(key),
        }
    }

    /// To another row.
    fn travel(&mut self, key: KeyCode) {
        let page = self.height.max(1);
        let position = match key {
            KeyCode::Up | KeyCode::Char('k') => self.position.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.position.saturating_add(1),
            KeyCode::PageUp => self.position.saturating_sub(page),
            KeyCode::PageDown => self.position.saturating_add(page),
            KeyCode::Home => 0,
            KeyCode::End => usize::MAX,
            _ => return,
        };
        self.select(position.min(self.count.saturating_sub(1)));
    }

    /// Whatever row is there.
    fn select(&mut self, position: usize) {
        self.position = position;
        self.selected = None;
    }

    fn level(&mut self, level: Level) {
        self.choice.level = level;
        self.choice.focus = None;
        self.select(0);
    }

    fn sort(&mut self, further: usize) {
        let at = COLUMNS
            .iter()
            .position(|column| *column == self.choice.sort);
        let next = (at.unwrap_or(0) + further) % COLUMNS.len();
        self.choice.sort = COLUMNS[next];
        self.choice.reversed = false;
        self.select(0);
    }

    /// Looks at the selected row's Service in depth.
    fn enter(&mut self) {
        if self.choice.focus.is_some() {
            return;
        }
        // Who types fast has not seen the row that is selected by now.
        let rows = rows(&self.table, &self.choice);
        let at = position(&rows, self.selected.as_ref(), self.position);
        if let Some(key) = rows.get(at).map(Row::key) {
            self.choice.focus = Some(Focus(key.service));
            self.unnamed = None;
            self.select(0);
        }
    }

    /// Back, one step at a time.
    fn leave(&mut self) {
        if let Some(Focus(service)) = self.choice.focus.take() {
            let level = self.choice.level;
            self.select(0);
            if level == Level::Services {
                self.selected = Some(Key {
                    service,
                    server: None,
                    real: None,
                });
            }
        } else {
            self.choice.filter.clear();
        }
    }
}

fn after(level: Level) -> Level {
    match level {
        Level::Services => Level::VirtualServers,
        Level::VirtualServers => Level::RealServers,
        Level::RealServers => Level::Services,
    }
}

/// Where the selected row is now; where it was, if it is gone.
fn position(rows: &[Row<'_>], selected: Option<&Key>, before: usize) -> usize {
    let found = selected.and_then(|key| rows.iter().position(|row| row.is(key)));
    found.unwrap_or_else(|| before.min(rows.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{at, front, real, seen};
    use super::*;

    pub(super) fn choice() -> Choice {
        Choice {
            level: Level::Services,
            focus: None,
            sort: Column::Connections,
            reversed: false,
            filter: String::new(),
        }
    }

    /// Services `ns/s00` to `ns/s19`, none with traffic.
    fn app() -> App {
        let mut app = App::new(choice());
        app.take(Ok(look(0, 20)));
        app.lay_out(80, 5);
        app
    }

    fn look(seconds: u64, connections: u64) -> Sample {
        let one = |number: u16| {
            let counted = if number == 15 { connections } else { 0 };
            let real = vec![real(7, 1, 0, counted)];
            seen(number, &format!("ns/s{number:02}:http"), Some(real))
        };
        at(seconds, (0..20).map(one).collect())
    }

    fn press(app: &mut App, keys: &[KeyCode]) -> Vec<String> {
        for key in keys {
            app.press(KeyEvent::from(*key));
            app.lay_out(80, 5);
        }
        lines(app)
    }

    /// The first word of each line, the selected one marked.
    fn lines(app: &mut App) -> Vec<String> {
        let shown = app.lay_out(80, 5);
        let lines = shown.page.lines.iter().enumerate().map(|(number, line)| {
            let word = line.text.trim_start_matches([' ', '-', '>']);
            let word = word.split(' ').next().unwrap_or_default();
            let mark = if shown.selected == Some(number) {
                "*"
            } else {
                ""
            };
            format!("{mark}{word}")
        });
        lines.collect()
    }

    use KeyCode::{Char, Down, End, Enter, Esc, Home, PageDown, Up};

    #[test]
    fn keys_walk_through_the_rows_and_stop_at_both_ends() {
        let mut app = app();
        assert_eq!(lines(&mut app)[0], "*ns/s00");
        assert_eq!(
            press(&mut app, &[Up]),
            ["*ns/s00", "ns/s01", "ns/s02", "ns/s03", "ns/s04"]
        );
        assert_eq!(press(&mut app, &[Down; 5])[4], "*ns/s05");
        assert_eq!(
            press(&mut app, &[Up])[3],
            "*ns/s04",
            "the page stays where it is"
        );
        assert_eq!(press(&mut app, &[PageDown])[4], "*ns/s09");
        assert_eq!(press(&mut app, &[End, Down])[4], "*ns/s19");
        assert_eq!(press(&mut app, &[Home])[0], "*ns/s00");
    }

    #[test]
    fn the_selected_row_stays_selected_wherever_it_moves() {
        let mut app = app();
        press(&mut app, &[Down, Down]);
        app.take(Ok(look(2, 60)));
        let now = lines(&mut app);
        assert_eq!(now, ["ns/s15", "ns/s00", "ns/s01", "*ns/s02", "ns/s03"]);

        app.take(Ok(at(4, look(4, 60).servers.into_iter().skip(3).collect())));
        assert_eq!(lines(&mut app)[3], "*ns/s05", "the row in its place");
        app.take(Ok(at(6, Vec::new())));
        assert!(lines(&mut app).is_empty());
        assert!(press(&mut app, &[Down, Enter, End]).is_empty());
    }

    #[test]
    fn a_filter_is_typed_kept_and_dropped() {
        let mut app = app();
        press(&mut app, &[Char('/'), Char('s'), Char('1'), Char('q')]);
        assert!(lines(&mut app).is_empty(), "q is part of it");
        assert_eq!(press(&mut app, &[KeyCode::Backspace])[0], "*ns/s10");
        assert_eq!(press(&mut app, &[Char('2'), Enter]), ["*ns/s12"]);
        assert!(!app.typing && !app.ended);
        assert_eq!(press(&mut app, &[Esc]).len(), 5);
        press(&mut app, &[Char('/'), Char('x'), Esc]);
        assert_eq!(lines(&mut app).len(), 5);
    }

    #[test]
    fn a_service_in_depth_and_back() {
        let mut app = app();
        press(&mut app, &[Down, Down]);
        assert_eq!(
            press(&mut app, &[Enter]),
            ["*10.96.0.2:80/TCP", "10.244.1.7:8080"]
        );
        assert_eq!(app.kind(), Kind::Depth);
        assert_eq!(app.shown(), &BTreeSet::from([front(2)]));
        assert_eq!(press(&mut app, &[Enter, Esc])[2], "*ns/s02");
        assert_eq!(press(&mut app, &[Char('3')])[0], "*10.244.1.7:8080");
        assert_eq!(press(&mut app, &[KeyCode::Tab])[0], "*ns/s00");
    }

    #[test]
    fn keys_count_that_come_faster_than_the_screen_follows() {
        let mut app = app();
        app.lay_out(80, 5);
        for key in [End, Down, Up, Enter] {
            app.press(KeyEvent::from(key));
        }
        assert_eq!(lines(&mut app)[0], "*10.96.0.18:80/TCP");
    }

    #[test]
    fn columns_sort_and_turn_round() {
        let mut app = app();
        app.take(Ok(look(2, 60)));
        assert_eq!(lines(&mut app)[0], "*ns/s15", "by connections");
        assert_eq!(press(&mut app, &[Char('r')])[0], "*ns/s00");
        assert_eq!(press(&mut app, &[End])[4], "*ns/s15");
        press(&mut app, &[Home, Char('<'), Char('>')]);
        assert_eq!(app.choice.sort, Column::Connections);
        assert!(!app.choice.reversed);
        press(&mut app, &[Char('<'); 7]);
        assert_eq!(app.choice.sort, Column::Name);
        assert_eq!(press(&mut app, &[Char('r'), Home])[0], "*ns/s19");
    }

    #[test]
    fn what_is_on_the_screen_is_looked_at_next() {
        let mut app = app();
        lines(&mut app);
        assert_eq!(app.shown(), &(0..5).map(front).collect());
        press(&mut app, &[Char('2'), End]);
        assert_eq!(app.shown(), &(15..20).map(front).collect());
    }

    #[test]
    fn the_end_help_and_a_failed_look() {
        let mut app = app();
        app.take(Err(anyhow::anyhow!("no answer")));
        assert_eq!(app.problem.as_deref(), Some("no answer"));
        assert_eq!(lines(&mut app).len(), 5, "what was true stays");
        app.take(Ok(look(2, 0)));
        assert_eq!(app.problem, None);

        press(&mut app, &[Char('?')]);
        assert!(app.help);
        press(&mut app, &[Char('q')]);
        assert!(!app.help && !app.ended);
        press(&mut app, &[Char(' ')]);
        assert!(app.frozen);
        app.press(KeyEvent::new(Char('c'), KeyModifiers::CONTROL));
        assert!(app.ended);
    }
}

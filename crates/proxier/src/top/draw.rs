//! The state on a screen.

use kube_ipvs_core::escape::Escaped;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::app::{App, Shown};
use super::page::{NOT_OURS, short};
use super::rows::{Column, Focus, Level};

/// Lines that are no rows: two above the heading, it, and one at the foot.
const AROUND: u16 = 4;

const HELP: &str = "\
Up Down PgUp PgDn Home End   another row
Enter                        the Service of this row, with all its real servers
Esc                          back; without a filter
1 2 3, or Tab                Services, virtual servers, real servers
< >                          sort by the next column to the left or right
r                            the least first, or the most
/                            only what has this in a name or an address
Space, or f                  freeze, and go on
q, or Ctrl-C                 the end

Rates are growth over the last two looks. The kernel sums its counters up every two
seconds. FRONTS are virtual servers, REAL their real servers, DRAIN those of weight 0.
Connections of virtual servers that are not on the screen may be older than one look.";

/// Draws. Without `colours` what stands out is bold or reversed.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, interval: &str, colours: bool) {
    let area = frame.area();
    let height = usize::from(area.height.saturating_sub(AROUND));
    let shown = app.lay_out(area.width.into(), height);
    let mut lines = vec![head(app, &shown, interval), tabs(app, &shown)];
    if app.help {
        lines.push(Line::default());
        lines.extend(HELP.lines().map(Line::raw));
    } else {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        lines.push(Line::styled(shown.page.heading.clone(), bold));
        lines.extend(body(&shown, colours));
    }
    lines.truncate(area.height.saturating_sub(1).into());
    for (line, y) in lines.iter().zip(area.y..) {
        frame.render_widget(
            line,
            Rect {
                y,
                height: 1,
                ..area
            },
        );
    }
    if area.height > 0 {
        let y = area.bottom() - 1;
        frame.render_widget(
            foot(app, colours),
            Rect {
                y,
                height: 1,
                ..area
            },
        );
    }
}

fn head(app: &App, shown: &Shown, interval: &str) -> Line<'static> {
    let total = &shown.total;
    let state = if app.frozen { "FROZEN" } else { interval };
    Line::styled(
        format!(
            "kube-ipvs top, {state}: {} virtual, {} real servers, {} draining; {} active, {} conn/s, {}B/s in, {}B/s out",
            total.servers,
            total.real_servers,
            total.draining,
            total.active,
            short(total.rates.connections),
            short(total.rates.in_bytes),
            short(total.rates.out_bytes),
        ),
        Style::new().add_modifier(Modifier::BOLD),
    )
}

fn tabs(app: &App, shown: &Shown) -> Line<'static> {
    let choice = &app.choice;
    let what = match &choice.focus {
        Some(Focus(service)) => Escaped(service.as_deref().unwrap_or(NOT_OURS)).to_string(),
        None => match choice.level {
            Level::Services => "Services".to_owned(),
            Level::VirtualServers => "virtual servers".to_owned(),
            Level::RealServers => "real servers".to_owned(),
        },
    };
    let order = if choice.reversed { ", reversed" } else { "" };
    let mut text = format!("{what}: {}  by {}{order}", shown.rows, word(choice.sort));
    if !choice.filter.is_empty() {
        text += &format!("  filter {:?}", choice.filter);
    }
    Line::raw(text)
}

fn word(column: Column) -> &'static str {
    match column {
        Column::Name => "name",
        Column::VirtualServers => "virtual servers",
        Column::RealServers => "real servers",
        Column::Weight => "weight",
        Column::Draining => "draining",
        Column::Active => "active",
        Column::Inactive => "inactive",
        Column::Connections => "connections/s",
        Column::InPackets => "packets in/s",
        Column::OutPackets => "packets out/s",
        Column::InBytes => "bytes in/s",
        Column::OutBytes => "bytes out/s",
    }
}

fn body(shown: &Shown, colours: bool) -> impl Iterator<Item = Line<'static>> {
    let lines = shown.page.lines.iter().enumerate();
    lines.map(move |(number, line)| {
        let mut style = Style::new();
        if line.drains && colours {
            style = style.fg(Color::Yellow);
        }
        if shown.selected == Some(number) {
            style = style.add_modifier(Modifier::REVERSED);
        }
        Line::styled(line.text.clone(), style)
    })
}

fn foot(app: &App, colours: bool) -> Line<'static> {
    if app.typing {
        return Line::raw(format!(
            "/{}_  Enter keeps it, Esc drops it",
            app.choice.filter
        ));
    }
    let unnamed = app.unnamed.as_ref().filter(|_| app.choice.focus.is_some());
    if let Some(problem) = app.problem.as_ref().or(unnamed) {
        let style = if colours {
            Style::new().fg(Color::Red)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        };
        return Line::styled(Escaped(problem).to_string(), style);
    }
    Line::raw("q end  ? keys  Enter in depth  / filter  < > sort  Space freeze")
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::style::Color;

    use super::super::rows::Choice;
    use super::super::table::tests::{at, real, seen};
    use super::*;
    use crate::pods::PodNames;

    fn app() -> App {
        let mut app = App::new(Choice {
            level: Level::Services,
            focus: None,
            sort: Column::Connections,
            reversed: false,
            filter: String::new(),
        });
        let look = |busy: u64| {
            vec![
                seen(
                    1,
                    "ns/web:http",
                    Some(vec![real(7, 1, 3, busy), real(8, 0, 1, 5)]),
                ),
                seen(2, "ns/web:https", Some(vec![real(7, 1, 0, 0)])),
                seen(
                    3,
                    "ns/dns\u{1b}[2J:dns",
                    Some(vec![real(9, 1, 0, 2 * busy)]),
                ),
                seen(4, "", Some(vec![real(20, 1, 9, 0)])),
            ]
        };
        app.take(Ok(at(0, look(0))));
        app.take(Ok(at(2, look(3000))));
        app
    }

    fn terminal(app: &mut App, keys: &[KeyCode], colours: bool) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
        terminal
            .draw(|frame| draw(frame, app, "every 2s", colours))
            .unwrap();
        for key in keys {
            app.press(KeyEvent::from(*key));
            terminal
                .draw(|frame| draw(frame, app, "every 2s", colours))
                .unwrap();
        }
        terminal
    }

    fn screen(keys: &[KeyCode]) -> String {
        terminal(&mut app(), keys, true).backend().to_string()
    }

    #[test]
    fn each_page_looks_as_it_should() {
        use KeyCode::{Char, Down, Enter};
        let pages: [&[KeyCode]; 5] = [
            &[],
            &[Char('2')],
            &[Char('3'), Char('/'), Char('w'), Char('e'), Char('b')],
            &[Down, Enter],
            &[Char(' '), Char('?')],
        ];
        insta::assert_snapshot!(pages.map(screen).join("\n"));
    }

    #[test]
    fn a_failed_look_is_told_at_the_foot() {
        let mut app = app();
        app.take(Err(anyhow::anyhow!("no permission\u{1b}[2J")));
        let screen = terminal(&mut app, &[], true).backend().to_string();
        assert!(screen.contains("no permission\\u{1b}[2J"), "{screen}");
        assert!(screen.contains("ns/web "), "{screen}");
    }

    #[test]
    fn why_pods_have_no_names_is_told_in_depth_alone() {
        use KeyCode::{Enter, Esc};
        let mut app = app();
        _ = terminal(&mut app, &[Enter], true);
        app.name(Err(anyhow::anyhow!("ask the API server: no route")));
        let deep = terminal(&mut app, &[], true).backend().to_string();
        assert!(deep.contains("ask the API server: no route"), "{deep}");
        let back = terminal(&mut app, &[Esc], true).backend().to_string();
        assert!(!back.contains("no route"), "{back}");
        app.name(Ok(PodNames::default()));
        let named = terminal(&mut app, &[Enter], true).backend().to_string();
        assert!(!named.contains("no route"), "{named}");
    }

    #[test]
    fn colours_are_only_there_when_they_may_be() {
        let coloured = |colours| {
            let terminal = terminal(&mut app(), &[], colours);
            let cells = terminal.backend().buffer().content().iter();
            cells.filter(|cell| cell.fg != Color::Reset).count()
        };
        assert!(coloured(true) > 0);
        assert_eq!(coloured(false), 0);
    }

    #[test]
    fn the_smallest_screens_are_no_fault() {
        for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 4), (20, 5), (500, 3)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let mut app = app();
            for key in ['2', '3', '?', '/', 'x'] {
                terminal
                    .draw(|frame| draw(frame, &mut app, "every 2s", true))
                    .unwrap();
                app.press(KeyEvent::from(KeyCode::Char(key)));
            }
            terminal
                .draw(|frame| draw(frame, &mut app, "every 2s", true))
                .unwrap();
        }
    }
}

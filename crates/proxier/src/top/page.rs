//! Rows as columns of text.

use kube_ipvs_core::escape::Escaped;

use super::rows::{Column, Key, Level, Row, number};

/// What is not ours is called so.
pub(super) const NOT_OURS: &str = "(not ours)";
/// Between columns.
const GAP: usize = 2;
/// Columns of text get at least this much, before those of numbers that matter
/// least are left out.
const TEXT: usize = 60;

/// A table as text: a heading, and a line for each row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The heading.
    pub(super) heading: String,
    /// The rows.
    pub(super) lines: Vec<Line>,
}

/// A row as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The row that it is of.
    pub(super) key: Key,
    /// What it says.
    pub(super) text: String,
    /// Something of it drains.
    pub(super) drains: bool,
}

/// A column of numbers.
struct Numbers {
    column: Column,
    heading: &'static str,
    width: usize,
}

const fn numbers(column: Column, heading: &'static str, width: usize) -> Numbers {
    Numbers {
        column,
        heading,
        width,
    }
}

/// In the order of a page.
const ALL: [Numbers; 11] = [
    numbers(Column::VirtualServers, "FRONTS", 6),
    numbers(Column::RealServers, "REAL", 5),
    numbers(Column::Weight, "WEIGHT", 6),
    numbers(Column::Draining, "DRAIN", 5),
    numbers(Column::Active, "ACTIVE", 7),
    numbers(Column::Inactive, "INACT", 7),
    numbers(Column::Connections, "CONN/s", 7),
    numbers(Column::InPackets, "INPKT/s", 7),
    numbers(Column::OutPackets, "OUTPKT/s", 8),
    numbers(Column::InBytes, "INB/s", 7),
    numbers(Column::OutBytes, "OUTB/s", 7),
];

/// What goes first where there is no room.
const LEAST: [Column; 9] = [
    Column::VirtualServers,
    Column::OutPackets,
    Column::InPackets,
    Column::RealServers,
    Column::Inactive,
    Column::Draining,
    Column::OutBytes,
    Column::InBytes,
    Column::Weight,
];

/// What the rows of a page are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of one level.
    Level(Level),
    /// Virtual servers with real servers below them.
    Depth,
}

/// Lays rows out, in so many characters a line, or as many as it takes.
pub(super) fn page(rows: &[Row<'_>], kind: Kind, width: Option<usize>) -> Page {
    let pods = rows.iter().any(|row| row.pod.is_some());
    let texts: Vec<Vec<String>> = rows.iter().map(|row| words(row, kind, pods)).collect();
    let headings = headings(kind, pods);
    let mut widths: Vec<usize> = headings.iter().map(|word| word.len()).collect();
    for row in &texts {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = (*width).max(word.chars().count());
        }
    }
    let columns = columns(kind, &mut widths, width);
    let mut heading = joined(headings.iter().copied(), &widths);
    for one in &columns {
        heading += &format!("{:GAP$}{:>width$}", "", one.heading, width = one.width);
    }
    let line = |(row, words): (&Row<'_>, &Vec<String>)| {
        let mut text = joined(words.iter().map(String::as_str), &widths);
        for one in &columns {
            let number = cell(row, one.column);
            text += &format!("{:GAP$}{number:>width$}", "", width = one.width);
        }
        Line {
            key: row.key(),
            text,
            drains: row.sums.draining > 0,
        }
    };
    Page {
        heading,
        lines: rows.iter().zip(&texts).map(line).collect(),
    }
}

/// With `pods` there are names of some.
fn headings(kind: Kind, pods: bool) -> &'static [&'static str] {
    match kind {
        Kind::Level(Level::Services) => &["SERVICE"],
        Kind::Level(Level::VirtualServers) => &["VIRTUAL SERVER", "SCHED", "SERVICE"],
        Kind::Level(Level::RealServers) if pods => {
            &["REAL SERVER", "POD", "VIRTUAL SERVER", "SERVICE"]
        }
        Kind::Level(Level::RealServers) => &["REAL SERVER", "VIRTUAL SERVER", "SERVICE"],
        Kind::Depth if pods => &["VIRTUAL SERVER", "SCHED", "PORT, POD"],
        Kind::Depth => &["VIRTUAL SERVER", "SCHED", "PORT"],
    }
}

/// The text of a row, a word a column.
fn words(row: &Row<'_>, kind: Kind, pods: bool) -> Vec<String> {
    // Names come from a file and the API server, and a scheduler from the kernel.
    let service = Escaped(row.service.unwrap_or(NOT_OURS)).to_string();
    let server = row.server.map(ToString::to_string).unwrap_or_default();
    let scheduler = Escaped(row.scheduler.unwrap_or_default()).to_string();
    let pod = Escaped(row.pod.unwrap_or_default()).to_string();
    match (kind, row.real) {
        (Kind::Level(Level::Services), _) => vec![service],
        (Kind::Level(Level::VirtualServers), _) => vec![server, scheduler, service],
        (Kind::Level(Level::RealServers), real) => {
            let real = real.map(ToString::to_string).unwrap_or_default();
            let pod = pods.then_some(pod);
            [Some(real), pod, Some(server), Some(service)]
                .into_iter()
                .flatten()
                .collect()
        }
        (Kind::Depth, Some(real)) => vec![format!("  -> {real}"), String::new(), pod],
        (Kind::Depth, None) => {
            let port = service.split_once(':').map_or("", |(_, port)| port);
            vec![server, scheduler, port.to_owned()]
        }
    }
}

/// The columns of numbers that have room, once those of text have theirs.
fn columns(kind: Kind, texts: &mut [usize], width: Option<usize>) -> Vec<&'static Numbers> {
    let mut columns: Vec<_> = ALL.iter().filter(|one| belongs(one.column, kind)).collect();
    let Some(width) = width else { return columns };
    let needed = |columns: &[&Numbers]| columns.iter().map(|one| one.width + GAP).sum::<usize>();
    let text: usize = texts.iter().sum::<usize>() + GAP * (texts.len() - 1);
    for least in LEAST {
        if needed(&columns) + text.min(TEXT) <= width {
            break;
        }
        columns.retain(|one| one.column != least);
    }
    // The last word is the one that can be guessed best.
    let mut excess = (text + needed(&columns)).saturating_sub(width);
    for text in texts.iter_mut().rev() {
        let less = excess.min(text.saturating_sub(4));
        *text -= less;
        excess -= less;
    }
    columns
}

fn belongs(column: Column, kind: Kind) -> bool {
    match column {
        Column::VirtualServers => kind == Kind::Level(Level::Services),
        Column::RealServers => !matches!(kind, Kind::Level(Level::RealServers)),
        Column::Draining => !matches!(kind, Kind::Level(Level::RealServers) | Kind::Depth),
        Column::Weight => matches!(kind, Kind::Level(Level::RealServers) | Kind::Depth),
        _ => true,
    }
}

/// Words, each padded or cut to its width.
fn joined<'a>(words: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut text = String::new();
    for (number, (word, width)) in words.zip(widths).enumerate() {
        if number > 0 {
            text += &" ".repeat(GAP);
        }
        let long = word.chars().count() > *width;
        let kept = if long {
            width.saturating_sub(1)
        } else {
            *width
        };
        text.extend(word.chars().take(kept));
        if long {
            text.push('…');
        } else {
            text += &" ".repeat(width - word.chars().count());
        }
    }
    text
}

fn cell(row: &Row<'_>, column: Column) -> String {
    match column {
        // A row without a weight, or without real servers of its own.
        Column::Weight if row.weight.is_none() => String::new(),
        Column::RealServers if row.real.is_some() => String::new(),
        _ => short(number(row, column)),
    }
}

/// A number in seven characters at most: `0`, `0.5`, `1234`, `12.3K`, `4.56G`.
pub(super) fn short(number: f64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if number.fract() == 0.0 && number < 10_000.0 {
        return format!("{number:.0}");
    }
    let mut number = number;
    let mut unit = "";
    for next in UNITS {
        if number < 9_999.5 && unit.is_empty() || number < 999.5 {
            break;
        }
        number /= 1000.0;
        unit = next;
    }
    let digits = match number {
        ..9.995 if !unit.is_empty() => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Choice, Focus, rows};
    use super::super::table::Table;
    use super::super::table::tests::{at, real, seen};
    use super::*;
    use crate::pods::PodNames;

    fn table() -> Table {
        let mut table = Table::default();
        let look = |connections| {
            vec![
                seen(
                    1,
                    "kube-system/web:http",
                    Some(vec![real(7, 1, 3, connections), real(8, 0, 1, 5)]),
                ),
                seen(4, "", Some(vec![real(20, 1, 9, 0)])),
            ]
        };
        table.take(at(0, look(0)));
        table.take(at(2, look(4001)));
        table
    }

    fn shown(kind: Kind, width: Option<usize>) -> String {
        let (level, focus) = match kind {
            Kind::Level(level) => (level, None),
            Kind::Depth => (
                Level::Services,
                Some(Focus(Some("kube-system/web".to_owned()))),
            ),
        };
        let table = table();
        let choice = Choice {
            level,
            focus,
            sort: Column::Name,
            reversed: false,
            filter: String::new(),
        };
        let page = page(&rows(&table, &choice), kind, width);
        let mut text = page.heading + "\n";
        for line in page.lines {
            text += &line.text;
            text += if line.drains { " *\n" } else { "\n" };
        }
        text
    }

    #[test]
    fn every_kind_of_page_has_its_columns() {
        insta::assert_snapshot!(
            [
                shown(Kind::Level(Level::Services), None),
                shown(Kind::Level(Level::VirtualServers), None),
                shown(Kind::Level(Level::RealServers), None),
                shown(Kind::Depth, None),
            ]
            .join("\n")
        );
    }

    #[test]
    fn pods_are_named_where_they_are_known_and_have_no_column_otherwise() {
        let mut table = table();
        let address = std::net::IpAddr::from([10, 244, 1, 8]);
        table.pods = PodNames::one("kube-system/web", address, "web-\u{1b}0");
        let shown = |level, focus: Option<&str>, filter: &str| {
            let choice = Choice {
                level,
                focus: focus.map(|service| Focus(Some(service.to_owned()))),
                sort: Column::Name,
                reversed: false,
                filter: filter.to_owned(),
            };
            let kind = focus.map_or(Kind::Level(level), |_| Kind::Depth);
            let page = page(&rows(&table, &choice), kind, None);
            let lines = page.lines.iter().map(|line| &line.text[..]);
            let lines = [&page.heading[..]].into_iter().chain(lines);
            lines
                .map(|line| {
                    line.split("  ")
                        .map(str::trim)
                        .filter(|word| !word.is_empty())
                        .take(3)
                        .collect::<Vec<_>>()
                        .join("|")
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Level::Services, Some("kube-system/web"), ""),
            [
                "VIRTUAL SERVER|SCHED|PORT, POD",
                "10.96.0.1:80/TCP|rr|http",
                "-> 10.244.1.7:8080|1|3",
                "-> 10.244.1.8:8080|web-\\u{1b}0|0",
            ]
        );
        let found = shown(Level::RealServers, None, "WEB-");
        assert_eq!(
            found,
            [
                "REAL SERVER|POD|VIRTUAL SERVER",
                "10.244.1.8:8080|web-\\u{1b}0|10.96.0.1:80/TCP",
            ],
            "found by its name"
        );
        let others = shown(Level::RealServers, None, "10.96.0.4");
        assert!(!others[0].contains("POD"), "{others:?}");
    }

    #[test]
    fn a_narrow_page_leaves_out_what_matters_least_and_keeps_its_width() {
        for width in [40, 60, 80, 100, 132] {
            for kind in [
                Kind::Level(Level::Services),
                Kind::Level(Level::VirtualServers),
                Kind::Level(Level::RealServers),
                Kind::Depth,
            ] {
                let text = shown(kind, Some(width));
                let longest = text
                    .lines()
                    .map(|line| line.trim_end_matches(" *").chars().count())
                    .max();
                assert!(longest <= Some(width), "{width}: {text}");
                assert!(text.contains("CONN/s"), "{width}: {text}");
            }
        }
        let text = shown(Kind::Level(Level::VirtualServers), Some(80));
        assert!(text.contains("10.96.0.1:80/TCP"), "{text}");
        assert!(!text.contains("OUTPKT/s"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.34, "12.3"),
            (1234.0, "1234"),
            (9999.0, "9999"),
            (9999.7, "10.0K"),
            (12_345.0, "12.3K"),
            (999_700.0, "1.00M"),
            (123_456_789.0, "123M"),
            (4.56e9, "4.56G"),
            (1.8e19, "18.0E"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }
}

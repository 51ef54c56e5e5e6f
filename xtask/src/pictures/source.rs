//! The text a picture is made from.

use anyhow::{Context, Result, bail, ensure};

/// Characters that a line in a box has room for.
const WIDEST: usize = 38;

pub(super) struct Picture {
    pub(super) title: String,
    /// Names of the colours, and what they stand for.
    pub(super) kinds: Vec<(String, String)>,
    pub(super) groups: Vec<Group>,
    pub(super) boxes: Vec<Box>,
    pub(super) arrows: Vec<Arrow>,
}

/// A frame around places of the grid.
pub(super) struct Group {
    pub(super) column: usize,
    pub(super) row: usize,
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) heading: String,
}

pub(super) struct Box {
    name: String,
    pub(super) column: usize,
    pub(super) row: usize,
    pub(super) kind: String,
    /// The first is the heading.
    pub(super) lines: Vec<String>,
}

/// Between two boxes, by their places in the list.
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) dashed: bool,
    /// Goes round the boxes between, on their right.
    pub(super) around: bool,
    pub(super) label: String,
}

pub(super) fn parse(text: &str) -> Result<Picture> {
    let mut picture = Picture {
        title: String::new(),
        kinds: Vec::new(),
        groups: Vec::new(),
        boxes: Vec::new(),
        arrows: Vec::new(),
    };
    for (number, line) in text.lines().enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            picture
                .add(line)
                .with_context(|| format!("line {}: {line}", number + 1))?;
        }
    }
    ensure!(!picture.boxes.is_empty(), "no box");
    Ok(picture)
}

impl Picture {
    fn add(&mut self, line: &str) -> Result<()> {
        let (words, text) = line.split_once(':').unwrap_or((line, ""));
        let text = text.trim().to_owned();
        let words: Vec<&str> = words.split_whitespace().collect();
        match words[..] {
            ["title"] => self.title = text,
            ["kind", name] => self.kinds.push((name.to_owned(), text)),
            ["group", column, row, columns, rows] => self.groups.push(Group {
                column: number(column)?,
                row: number(row)?,
                columns: number(columns)?,
                rows: number(rows)?,
                heading: text,
            }),
            ["box", name, column, row, kind] => {
                self.add_box(name, (number(column)?, number(row)?), kind, &text)?;
            }
            ["arrow", from, to, ref manner @ ..] => {
                for word in manner {
                    ensure!(["dashed", "around"].contains(word), "no manner {word:?}");
                }
                self.arrows.push(Arrow {
                    from: self.named(from)?,
                    to: self.named(to)?,
                    dashed: manner.contains(&"dashed"),
                    around: manner.contains(&"around"),
                    label: text,
                });
            }
            _ => bail!(
                "no word {:?} with these places",
                words.first().unwrap_or(&"")
            ),
        }
        Ok(())
    }

    fn add_box(&mut self, name: &str, at: (usize, usize), kind: &str, text: &str) -> Result<()> {
        let known = self.kinds.iter().any(|(known, _)| known == kind);
        ensure!(known, "no kind {kind:?}");
        ensure!(self.named(name).is_err(), "box {name:?} is there twice");
        let taken = self
            .boxes
            .iter()
            .find(|other| (other.column, other.row) == at);
        if let Some(taken) = taken {
            bail!("{:?} is there already", taken.name);
        }
        let lines: Vec<String> = text.split('|').map(|line| line.trim().to_owned()).collect();
        for line in &lines {
            ensure!(
                line.chars().count() <= WIDEST,
                "too long for a box: {line:?}"
            );
        }
        self.boxes.push(Box {
            name: name.to_owned(),
            column: at.0,
            row: at.1,
            kind: kind.to_owned(),
            lines,
        });
        Ok(())
    }

    fn named(&self, name: &str) -> Result<usize> {
        let mut boxes = self.boxes.iter();
        boxes
            .position(|known| known.name == name)
            .with_context(|| format!("no box {name:?}"))
    }
}

fn number(word: &str) -> Result<usize> {
    word.parse().with_context(|| format!("no number: {word:?}"))
}

//! Figures beside those that were written down, so that none gets worse unseen.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// A line each: name, value. Less is better, of all of them.
const WRITTEN_DOWN: &str = include_str!("figures.txt");
/// So much worse than written down is too much. Two builds of the same differ
/// by half a percent.
const WORST: f64 = 1.1;

/// What the benchmarks found.
#[derive(Debug, Default)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Takes one in; its name says of which benchmark, of what, and the unit.
    pub fn tell(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    /// Prints each beside what is written down; false when one is a tenth worse.
    ///
    /// # Errors
    /// One is not written down, or there is none: the benchmarks that have some
    /// are named.
    pub fn check(&self) -> Result<bool> {
        ensure!(
            !self.0.is_empty(),
            "no figures of these benchmarks are checked: name `audit`, `compile`, `daemon` or `decode`"
        );
        let known = read(WRITTEN_DOWN)?;
        let mut kept = true;
        for (name, value) in &self.0 {
            let before = known.iter().find(|(other, _)| other == name);
            let (_, before) = before.with_context(|| {
                format!("write `{name} {value:.2}` down in tests/src/figures.txt")
            })?;
            let compared = Compared {
                value: *value,
                before: *before,
            };
            println!("check: {name}: {compared}");
            kept &= !compared.is_worse();
        }
        Ok(kept)
    }
}

fn read(text: &str) -> Result<Vec<(&str, f64)>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = |line| {
        let (name, value) = str::split_once(line, ' ').context("a name and a value")?;
        let value: f64 = value.parse()?;
        ensure!(value > 0.0, "{name}: {value} is nothing to compare with");
        Ok((name, value))
    };
    let read: Result<Vec<_>> = lines.map(line).collect();
    read.context("read tests/src/figures.txt")
}

struct Compared {
    value: f64,
    before: f64,
}

impl Compared {
    fn is_worse(&self) -> bool {
        self.value > self.before * WORST
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, before } = self;
        let percent = (value / before - 1.0) * 100.0;
        let verdict = if self.is_worse() {
            "FAILED, more than a tenth worse"
        } else if percent < -10.0 {
            "better; write it down"
        } else {
            "as it was"
        };
        write!(
            f,
            "{value:.2}, {before} before ({percent:+.1} %): {verdict}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(value: f64) -> String {
        let before = 80.0;
        Compared { value, before }.to_string()
    }

    #[test]
    fn a_tenth_worse_fails_and_a_tenth_better_is_to_be_written_down() {
        assert_eq!(verdict(80.4), "80.40, 80 before (+0.5 %): as it was");
        assert!(verdict(87.9).ends_with("as it was"));
        assert!(verdict(88.1).ends_with("FAILED, more than a tenth worse"));
        assert!(verdict(60.0).ends_with("better; write it down"));
    }

    #[test]
    fn what_is_written_down_can_be_read_and_nothing_else_can_be_checked() {
        let known = read(WRITTEN_DOWN).unwrap();
        let mut figures = Figures::default();
        let (name, value) = known[0];
        figures.tell(name, value);
        assert!(figures.check().unwrap());
        figures.tell(name, value * 1.2);
        assert!(!figures.check().unwrap());
        figures.tell("nobody/knows", 1.0);
        assert!(figures.check().is_err());
        assert!(Figures::default().check().is_err());
        assert!(read("compile/whole-ms").is_err() && read("compile/whole-ms 0").is_err());
    }
}

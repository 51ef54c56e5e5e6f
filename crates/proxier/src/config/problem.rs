//! What is wrong with a configuration: everything, not only the first thing.

use std::fmt;
use std::path::PathBuf;

use super::table;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flags,
    /// The file of `--config`.
    File(PathBuf),
}

/// One wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it came from.
    pub origin: Origin,
    /// The field (`ipvs.scheduler`) or the flag (`--ipvs-scheduler`).
    pub setting: String,
    /// The value as given.
    pub value: String,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Origin::File(path) = &self.origin {
            write!(f, "{}: ", path.display())?;
        }
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        if !self.value.is_empty() {
            write!(f, "{}: ", self.value)?;
        }
        f.write_str(&self.reason)
    }
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether the command line is to blame, and not only the file.
    pub fn of_flags(&self) -> bool {
        self.0.iter().any(|problem| problem.origin == Origin::Flags)
    }
}

impl fmt::Display for Problems {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is refused:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// A value in a message is no longer than this many characters.
const SHOWN: usize = 100;

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Collects problems of one origin.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) origin: Origin,
    pub(super) problems: Vec<Problem>,
    /// Fields that a flag gave, though there is a file.
    pub(super) flags: Vec<&'static str>,
}

impl Collector {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            problems: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// A field with a value that is not allowed. Named as the user gave it: a
    /// flag stands for its field when there is no file, or when it won over it.
    pub(super) fn field(
        &mut self,
        field: &str,
        value: impl fmt::Display,
        reason: impl Into<String>,
    ) {
        let flag = table::by_field(field).map_or("", |x| x.flag);
        if self.flags.contains(&field) {
            return self.flag(flag, value, reason);
        }
        let setting = match &self.origin {
            Origin::Flags if !flag.is_empty() => format!("--{flag}"),
            _ => field.to_owned(),
        };
        self.push(self.origin.clone(), setting, value, reason);
    }

    /// A flag with a value that is not allowed, file or not.
    pub(super) fn flag(&mut self, flag: &str, value: impl fmt::Display, reason: impl Into<String>) {
        self.push(Origin::Flags, format!("--{flag}"), value, reason);
    }

    /// The file as a whole.
    pub(super) fn whole(&mut self, reason: impl Into<String>) {
        self.push(self.origin.clone(), String::new(), "", reason);
    }

    fn push(
        &mut self,
        origin: Origin,
        setting: String,
        value: impl fmt::Display,
        reason: impl Into<String>,
    ) {
        let value = cut(value.to_string());
        let reason = reason.into();
        self.problems.push(Problem {
            origin,
            setting,
            value,
            reason,
        });
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            Ok(value)
        } else {
            Err(Problems(self.problems))
        }
    }
}

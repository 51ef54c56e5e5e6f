//! A directory of manifests as a source: read, and read again when it changes.

mod documents;
mod fields;
mod files;
mod parse;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;

use files::Survey;
pub use parse::{Loss, Parsed, Problem, parse, parse_strictly};
pub use watch::{Changes, Watched, watch};

/// The kinds a source of manifests speaks for.
const KINDS: [Kind; 4] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ServiceCidr,
    Kind::Node,
];
/// One written file is several notices (made, written, renamed): they are over
/// when none came for this long.
const QUIET: Duration = Duration::from_millis(50);
/// How often files that change meanwhile are read anew.
const ATTEMPTS: usize = 5;
/// Files and documents that a reason names.
const NAMED: usize = 10;

/// Objects of manifests by file, and what was last told of them.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    files: BTreeMap<PathBuf, BTreeMap<ObjectRef, Object>>,
    told: Told,
    parse: fn(&str) -> Parsed,
}

/// What the cluster knows.
#[derive(Debug, Default)]
struct Told {
    /// Every object that is there; none for one that was never readable.
    objects: BTreeMap<ObjectRef, Option<Object>>,
    begun: bool,
    /// A whole list was told once.
    whole: bool,
}

/// What a reading brought: events for the cluster, and what was wrong.
#[derive(Debug, Default)]
pub struct Reading {
    /// What changed since the last reading.
    pub events: Vec<Event>,
    /// One line a problem, with the file, the document and the field.
    pub problems: Vec<String>,
    /// Objects of other groups, which are none of ours.
    pub others: Vec<String>,
    /// What could not be read: files, documents, objects.
    unreadable: Vec<String>,
    /// Objects that are there and cannot be read.
    lost: BTreeSet<ObjectRef>,
    /// There may be objects that nobody knows of.
    incomplete: bool,
}

impl Reading {
    /// A reading that failed whole.
    pub fn failed(problem: String) -> Self {
        let mut reading = Self::default();
        reading.lose_all(problem);
        reading
    }

    /// Logs what was wrong.
    pub fn log_problems(&self) {
        for problem in &self.problems {
            tracing::warn!("{problem}");
        }
    }

    /// What could not be read, if anything: a reason not to be ready, and not
    /// to have succeeded.
    pub fn unreadable(&self) -> Option<String> {
        let more = self.unreadable.len().saturating_sub(NAMED);
        let named = self.unreadable[..self.unreadable.len() - more].join("; ");
        match (self.unreadable.len(), more) {
            (0, _) => None,
            (_, 0) => Some(named),
            _ => Some(format!("{named}; and {more} more")),
        }
    }

    fn lose(&mut self, what: String) {
        self.unreadable.push(what.clone());
        self.problems.push(what);
    }

    /// Something could not be read, and nobody knows what it held.
    fn lose_all(&mut self, what: String) {
        self.incomplete = true;
        self.lose(what);
    }
}

impl Manifests {
    /// Manifests below a directory (not its subdirectories), in one file, or
    /// from standard input (`-`, read once).
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            told: Told::default(),
            parse,
        }
    }

    /// The same; fields that Kubernetes does not have are problems too.
    pub fn strictly(self) -> Self {
        Self {
            parse: parse_strictly,
            ..self
        }
    }

    /// Reads all files. What a file held when it was last good is kept when it
    /// cannot be read or parsed now, and while anything is unreadable nothing
    /// is taken for gone.
    ///
    /// # Errors
    /// On the first reading, when the path itself cannot be read. Later this
    /// is a problem like any other and everything is kept.
    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let mut reading = match self.read_whole() {
            Ok((files, reading)) => {
                self.files = files;
                reading
            }
            Err(error) if !self.told.begun => return Err(error),
            Err(error) => Reading::failed(format!("{error:#}; what was read before is kept")),
        };
        reading.events = self.changes(&mut reading);
        Ok(reading)
    }

    /// Reads until nothing changed meanwhile: a file that is renamed between
    /// two looks would else be in neither.
    fn read_whole(&self) -> anyhow::Result<(Files, Reading)> {
        let mut attempts = 1;
        loop {
            let survey = Survey::of(&self.path)?;
            let (files, mut reading) = self.read_files(&survey);
            if survey.still_holds(&self.path) {
                return Ok((files, reading));
            }
            if attempts == ATTEMPTS {
                let path = self.path.display();
                reading.lose_all(format!("{path} changes faster than it can be read"));
                return Ok((files, reading));
            }
            attempts += 1;
        }
    }

    fn read_files(&self, survey: &Survey) -> (Files, Reading) {
        let mut reading = Reading::default();
        let mut files = Files::new();
        for path in survey.paths() {
            let before = self.files.get(path);
            let objects = match files::text(path) {
                Ok(text) => merge(before, (self.parse)(&text), path, &mut reading),
                Err(error) => {
                    let note = if before.is_none_or(BTreeMap::is_empty) {
                        ""
                    } else {
                        "; what it held is kept"
                    };
                    reading.lose_all(format!("{error:#}{note}"));
                    before.cloned().unwrap_or_default()
                }
            };
            files.insert(path.to_owned(), objects);
        }
        (files, reading)
    }

    fn changes(&mut self, reading: &mut Reading) -> Vec<Event> {
        let mut now: BTreeMap<_, _> = self
            .merged(&mut reading.problems)
            .into_iter()
            .map(|(at, object)| (at, Some(object)))
            .collect();
        for at in &reading.lost {
            let known = self.told.objects.get(at).cloned().flatten();
            now.entry(at.clone()).or_insert(known);
        }
        if reading.incomplete {
            for (at, object) in &self.told.objects {
                now.entry(at.clone()).or_insert_with(|| object.clone());
            }
        }
        let events = if self.told.whole || (self.told.begun && reading.incomplete) {
            self.told.differences(&now)
        } else {
            list(&now, reading.incomplete)
        };
        self.told = Told {
            objects: now,
            begun: true,
            whole: self.told.whole || !reading.incomplete,
        };
        events
    }

    /// One object a name: the first file in order wins, the others are told of.
    fn merged(&self, problems: &mut Vec<String>) -> BTreeMap<ObjectRef, Object> {
        let mut all: BTreeMap<ObjectRef, (&Path, Object)> = BTreeMap::new();
        for (path, objects) in &self.files {
            for (at, object) in objects {
                match all.get(at) {
                    Some((first, _)) => problems.push(format!(
                        "{}: {at} is already in {}, which is used",
                        path.display(),
                        first.display()
                    )),
                    None => {
                        all.insert(at.clone(), (path, object.clone()));
                    }
                }
            }
        }
        all.into_iter()
            .map(|(at, (_, object))| (at, object))
            .collect()
    }
}

type Files = BTreeMap<PathBuf, BTreeMap<ObjectRef, Object>>;

impl Told {
    fn differences(&self, now: &BTreeMap<ObjectRef, Option<Object>>) -> Vec<Event> {
        let changed = now
            .iter()
            .filter(|(at, object)| self.objects.get(at) != Some(object))
            .map(|(at, object)| event(at, object.as_ref()));
        let gone = self.objects.keys().filter(|at| !now.contains_key(at));
        changed.chain(gone.cloned().map(Event::Delete)).collect()
    }
}

/// All there is, as a list.
fn list(now: &BTreeMap<ObjectRef, Option<Object>>, incomplete: bool) -> Vec<Event> {
    let end = if incomplete {
        Event::ListIncomplete
    } else {
        Event::ListCompleted
    };
    let objects = now.iter().map(|(at, object)| event(at, object.as_ref()));
    let begun = KINDS.into_iter().map(Event::ListStarted);
    begun.chain(objects).chain(KINDS.map(end)).collect()
}

fn event(at: &ObjectRef, object: Option<&Object>) -> Event {
    match object {
        Some(object) => Event::Upsert(object.clone()),
        None => Event::Unreadable(at.clone().into()),
    }
}

/// What a file holds now: what could be read of it, and of the rest what was
/// there before.
fn merge(
    before: Option<&BTreeMap<ObjectRef, Object>>,
    parsed: Parsed,
    path: &Path,
    reading: &mut Reading,
) -> BTreeMap<ObjectRef, Object> {
    let file = path.display();
    let mut after: BTreeMap<ObjectRef, Object> = BTreeMap::new();
    for object in parsed.objects {
        let at = object.reference();
        if after.insert(at.clone(), object).is_some() {
            let problem = format!("{file}: {at} appears twice, the last one is used");
            reading.problems.push(problem);
        }
    }
    let truncated = parsed.problems.iter().any(|x| x.loss == Loss::Unknown);
    let lost = parsed.problems.iter().filter_map(|x| match &x.loss {
        Loss::Object(at) => Some(at),
        _ => None,
    });
    let lost: BTreeSet<_> = lost.collect();
    let kept: BTreeMap<_, _> = before
        .into_iter()
        .flatten()
        .filter(|(at, _)| !after.contains_key(at) && (truncated || lost.contains(at)))
        .map(|(at, object)| (at.clone(), object.clone()))
        .collect();
    let note = if kept.is_empty() {
        ""
    } else {
        "; what it held when it was last good is kept"
    };
    let others = parsed.others.iter().map(|other| format!("{file}: {other}"));
    reading.others.extend(others);
    for problem in parsed.problems {
        let line = format!("{file}: {problem}{note}");
        match problem.loss {
            Loss::Nothing => reading.problems.push(line),
            Loss::Object(at) => {
                reading.lose(line);
                reading.lost.insert(at);
            }
            Loss::Unknown => reading.lose_all(line),
        }
    }
    after.extend(kept);
    after
}

#[cfg(test)]
mod tests;

//! A directory of manifests as a source: read, and read again when it changes.

mod parse;
mod watch;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube_ipvs_core::event::{Event, Kind, ObjectRef};
use kube_ipvs_core::k8s::Object;

pub use parse::{Parsed, Problem, parse};
pub use watch::{Changes, watch};

/// The kinds a source of manifests speaks for.
const KINDS: [Kind; 4] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ServiceCidr,
    Kind::Node,
];

/// Objects of manifests by file, and what was last told of them.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    files: BTreeMap<PathBuf, BTreeMap<ObjectRef, Object>>,
    told: Option<BTreeMap<ObjectRef, Object>>,
}

/// What a reading brought: events for the cluster, and what was wrong.
#[derive(Debug, Default)]
pub struct Reading {
    /// What changed since the last reading.
    pub events: Vec<Event>,
    /// One line a problem, with the file, the document and the field.
    pub problems: Vec<String>,
    /// Files that could not be read at all.
    unreadable: Vec<String>,
}

impl Reading {
    /// A reading that failed whole.
    pub fn failed(problem: String) -> Self {
        Self {
            unreadable: vec![problem.clone()],
            problems: vec![problem],
            ..Self::default()
        }
    }

    /// Why this node should not count as ready: a file or directory that
    /// cannot be read. Documents that make no sense are the owner's matter.
    pub fn unreadable(&self) -> Option<String> {
        (!self.unreadable.is_empty()).then(|| self.unreadable.join("; "))
    }
}

impl Manifests {
    /// Manifests below a directory (not its subdirectories), in one file, or
    /// from standard input (`-`, read once).
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            told: None,
        }
    }

    /// Reads all files. What a file held when it was last good is kept when it
    /// cannot be read or parsed now; what a removed file held is gone.
    ///
    /// # Errors
    /// On the first reading, when the path itself cannot be read. Later this
    /// is a problem like any other and everything is kept.
    pub fn read(&mut self) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        match list(&self.path) {
            Ok(paths) => self.read_files(&paths, &mut reading),
            Err(error) if self.told.is_none() => return Err(error),
            Err(error) => {
                reading = Reading::failed(format!("{error:#}; what was read before is kept"));
            }
        }
        reading.events = self.changes(&mut reading.problems);
        Ok(reading)
    }

    fn read_files(&mut self, paths: &[PathBuf], reading: &mut Reading) {
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            let before = self.files.remove(path).unwrap_or_default();
            let after = match text_of(path) {
                Ok(text) => merge(before, parse(&text), path, &mut reading.problems),
                Err(error) => {
                    let kept = if before.is_empty() {
                        ""
                    } else {
                        "; what it held is kept"
                    };
                    reading.problems.push(format!("{error:#}{kept}"));
                    reading.unreadable.push(format!("{error:#}{kept}"));
                    before
                }
            };
            self.files.insert(path.clone(), after);
        }
    }

    fn changes(&mut self, problems: &mut Vec<String>) -> Vec<Event> {
        let now = self.merged(problems);
        let mut events = Vec::new();
        match &self.told {
            None => {
                events.extend(KINDS.map(Event::ListStarted));
                events.extend(now.values().cloned().map(Event::Upsert));
                events.extend(KINDS.map(Event::ListCompleted));
            }
            Some(told) => {
                let changed = now
                    .iter()
                    .filter(|(at, object)| told.get(at) != Some(object));
                events.extend(changed.map(|(_, object)| Event::Upsert(object.clone())));
                let gone = told.keys().filter(|at| !now.contains_key(at));
                events.extend(gone.cloned().map(Event::Delete));
            }
        }
        self.told = Some(now);
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

fn merge(
    before: BTreeMap<ObjectRef, Object>,
    parsed: Parsed,
    path: &Path,
    problems: &mut Vec<String>,
) -> BTreeMap<ObjectRef, Object> {
    let mut after: BTreeMap<ObjectRef, Object> = BTreeMap::new();
    for object in parsed.objects {
        let at = object.reference();
        if after.insert(at.clone(), object).is_some() {
            problems.push(format!(
                "{}: {at} appears twice, the last one is used",
                path.display()
            ));
        }
    }
    let broken = |at: &ObjectRef| {
        parsed
            .problems
            .iter()
            .any(|problem| problem.object.as_ref() == Some(at))
    };
    let kept: Vec<_> = before
        .into_iter()
        .filter(|(at, _)| !after.contains_key(at) && (parsed.truncated || broken(at)))
        .collect();
    for problem in &parsed.problems {
        let note = if kept.is_empty() {
            ""
        } else {
            "; what it held when it was last good is kept"
        };
        problems.push(format!("{}: {problem}{note}", path.display()));
    }
    after.extend(kept);
    after
}

/// The files of a path, in order of their names.
fn list(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path == Path::new("-") {
        return Ok(vec![path.to_owned()]);
    }
    let reading = || format!("read manifests {}", path.display());
    if !std::fs::metadata(path).with_context(reading)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).with_context(reading)? {
        let entry = entry.with_context(reading)?.path();
        if is_manifest(&entry) {
            paths.push(entry);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `*.yaml`, `*.yml` and `*.json`, hidden files excepted (editors and ConfigMap
/// mounts keep theirs there).
fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read manifests from standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("read manifest {}", path.display()))
}

#[cfg(test)]
mod tests;

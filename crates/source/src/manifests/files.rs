//! Which files there are, and their text.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;

use crate::input::file;

/// Most bytes of one file or of standard input. 10,000 Services of ten
/// endpoints each, as `kubectl get -o json` prints them, are about 95 MiB.
pub(super) const LARGEST: u64 = 256 << 20;

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

/// The text of a manifest.
pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return file::read_from(std::io::stdin().lock(), LARGEST)
            .context("read manifests from standard input");
    }
    file::read(path, LARGEST).with_context(|| format!("read manifest {}", path.display()))
}

/// What tells whether a file was written since.
type Written = Option<(SystemTime, u64, u64)>;

/// The files of a path as they were at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Survey(Vec<(PathBuf, Written)>);

impl Survey {
    /// Looks at all files. Waits a moment for one that was written just now:
    /// who writes in pieces should have come to an end.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let survey = Self::now(path)?;
        if !survey.is_fresh() {
            return Ok(survey);
        }
        std::thread::sleep(super::QUIET);
        Self::now(path)
    }

    fn now(path: &Path) -> anyhow::Result<Self> {
        let written = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        let files = list(path)?.into_iter();
        Ok(Self(
            files.map(|path| (path.clone(), written(&path))).collect(),
        ))
    }

    fn is_fresh(&self) -> bool {
        let now = SystemTime::now();
        let written = self.0.iter().filter_map(|(_, written)| *written);
        let mut ages = written.filter_map(|(then, ..)| now.duration_since(then).ok());
        ages.any(|age| age < super::QUIET)
    }

    /// Whether nothing was written, made or removed since.
    pub(super) fn still_holds(&self, path: &Path) -> bool {
        Self::now(path).is_ok_and(|now| now == *self)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }
}

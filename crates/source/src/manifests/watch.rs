//! Tells when something below a path has changed (inotify), and when it is time
//! to look again without having been told.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::QUIET;
use crate::backoff::Backoff;

/// Somebody who never stops writing is read nevertheless, this often.
const LONGEST: Duration = Duration::from_secs(1);
/// Pauses before it is looked again where something is wrong.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Notices of changes; they come as long as this lives.
#[derive(Debug)]
pub struct Changes {
    notices: watch::Receiver<u64>,
    directory: PathBuf,
    /// Device and inode of the directory: another one of its name is not watched.
    identity: Option<(u64, u64)>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Whether what is watched is what would be watched now.
    fn is_current(&self, path: &Path) -> bool {
        self.identity.is_some()
            && self.directory == directory_of(path)
            && self.identity == identity(&self.directory)
    }

    /// Waits for a change, and until whoever made it has paused. False when
    /// there can be none any more.
    pub async fn settled(&mut self) -> bool {
        if self.notices.changed().await.is_err() {
            return false;
        }
        let end = Instant::now() + LONGEST;
        loop {
            let until = end.min(Instant::now() + QUIET);
            match timeout_at(until, self.notices.changed()).await {
                Ok(Ok(())) => {}
                // The last notice is still to be answered.
                Ok(Err(_)) | Err(_) => return true,
            }
        }
    }
}

/// Starts watching.
///
/// A single file is watched through its directory: editors and ConfigMap
/// mounts replace files rather than write to them.
///
/// # Errors
/// When inotify is not to be had, or the directory cannot be watched.
pub fn watch(path: &Path) -> anyhow::Result<Changes> {
    let (tell, notices) = watch::channel(0);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error of the watcher means that something may have been missed.
        if !matches!(
            event,
            Ok(notify::Event {
                kind: EventKind::Access(_),
                ..
            })
        ) {
            tell.send_modify(|count| *count += 1);
        }
    })
    .context("start inotify")?;
    let directory = directory_of(path);
    let identity = identity(directory);
    // A link that is led elsewhere changes where it stands, not where it led.
    let above = path.is_symlink().then(|| parent(path));
    for directory in [Some(directory), above].into_iter().flatten() {
        watcher
            .watch(directory, RecursiveMode::NonRecursive)
            .with_context(|| format!("watch {}", directory.display()))?;
    }
    Ok(Changes {
        notices,
        directory: directory.to_owned(),
        identity,
        _watcher: watcher,
    })
}

/// A path that is looked at again when it changes, and in between as long as
/// anything is wrong with it.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    changes: Option<Changes>,
    backoff: Backoff,
    failure: Option<String>,
}

impl Watched {
    /// Begins to watch. Where that cannot be, the path is looked at now and then.
    pub fn new(path: &Path) -> Self {
        let mut watched = Self {
            path: path.to_owned(),
            changes: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            failure: None,
        };
        watched.begin();
        watched
    }

    /// Waits until it is time to look again: after a change, and, after a look
    /// that brought `trouble` or while no changes are told, after a pause that
    /// grows from half a second to half a minute.
    pub async fn look_again(&mut self, trouble: bool) {
        let changes = self.changes.as_ref();
        let current = changes.is_some_and(|changes| changes.is_current(&self.path));
        if !current && self.begin() {
            // What changed before the watch began was not told.
            return;
        }
        let pause = if trouble || self.changes.is_none() {
            Some(self.backoff.pause(None, 1.0))
        } else {
            self.backoff.reset();
            None
        };
        let told = match (&mut self.changes, pause) {
            (Some(changes), None) => changes.settled().await,
            (Some(changes), Some(pause)) => timeout(pause, changes.settled()).await.unwrap_or(true),
            (None, pause) => {
                sleep(pause.unwrap_or_default()).await;
                true
            }
        };
        if !told {
            self.changes = None;
        }
    }

    /// Whether a watch could be begun. Says once why not.
    fn begin(&mut self) -> bool {
        match watch(&self.path) {
            Ok(changes) => {
                self.changes = Some(changes);
                self.failure = None;
            }
            Err(error) => {
                let why = format!("{error:#}");
                if self.failure.as_ref() != Some(&why) {
                    let path = self.path.display();
                    tracing::warn!("changes of {path} are seen late, at the next look: {why}");
                    self.failure = Some(why);
                }
                self.changes = None;
            }
        }
        self.changes.is_some()
    }
}

/// Where changes of a path are seen.
fn directory_of(path: &Path) -> &Path {
    if path.is_dir() { path } else { parent(path) }
}

fn identity(directory: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(directory).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Far longer than a change takes to settle.
    const LONG: Duration = Duration::from_secs(20);
    const BRIEF: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn one_written_file_is_one_change() {
        let directory = tempfile::tempdir().expect("make a directory");
        let mut changes = watch(directory.path()).expect("watch it");

        fs::write(directory.path().join("a.yaml"), "kind: Service").expect("write");

        let first = tokio::time::timeout(LONG, changes.settled()).await;
        assert_eq!(first, Ok(true));
        let second = tokio::time::timeout(BRIEF, changes.settled()).await;
        assert!(second.is_err(), "told of one file twice");
    }

    #[tokio::test]
    async fn a_directory_that_is_replaced_is_watched_again() {
        let place = tempfile::tempdir().expect("make a directory");
        let directory = place.path().join("manifests");
        fs::create_dir(&directory).expect("make it");
        let mut watched = Watched::new(&directory);
        fs::rename(&directory, place.path().join("old")).expect("move it");
        let told = timeout(LONG, watched.look_again(false)).await;
        assert!(told.is_ok(), "not told that it is gone");

        fs::create_dir(&directory).expect("make it again");
        fs::write(directory.join("a.yaml"), "kind: Service").expect("write");
        while watched
            .changes
            .as_ref()
            .is_none_or(|c| c.directory != directory)
        {
            let again = timeout(LONG, watched.look_again(false)).await;
            assert!(again.is_ok(), "not told that it is there");
        }
        fs::write(directory.join("b.yaml"), "kind: Service").expect("write");
        let told = timeout(LONG, watched.look_again(false)).await;
        assert!(told.is_ok(), "the new directory is not watched");
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_is_looked_at_again_within_a_minute() {
        let directory = tempfile::tempdir().expect("make a directory");
        let mut watched = Watched::new(directory.path());
        for _ in 0..20 {
            let again = timeout(Duration::from_secs(60), watched.look_again(true)).await;
            assert!(again.is_ok());
        }
        let calm = timeout(Duration::from_secs(3600), watched.look_again(false)).await;
        assert!(calm.is_err(), "nothing had changed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_watched_is_looked_at_within_a_minute() {
        let directory = tempfile::tempdir().expect("make a directory");
        let missing = directory.path().join("missing").join("a.yaml");
        let mut watched = Watched::new(&missing);
        for _ in 0..20 {
            let again = timeout(Duration::from_secs(60), watched.look_again(false)).await;
            assert!(again.is_ok());
        }
        fs::create_dir(directory.path().join("missing")).expect("make it");
        watched.look_again(false).await;
        assert!(watched.changes.is_some(), "not watched though it can be");
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let directory = tempfile::tempdir().expect("make a directory");
        let file = directory.path().join("a.yaml");
        fs::write(&file, "kind: Service").expect("write");
        let mut changes = watch(directory.path()).expect("watch it");

        fs::read(&file).expect("read");

        assert!(
            tokio::time::timeout(BRIEF, changes.settled())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn somebody_who_never_stops_is_read_nevertheless() {
        let directory = tempfile::tempdir().expect("make a directory");
        let mut changes = watch(directory.path()).expect("watch it");
        let file = directory.path().join("a.yaml");
        let writer = tokio::spawn(async move {
            for number in 0.. {
                fs::write(&file, format!("number: {number}")).expect("write");
                tokio::time::sleep(QUIET / 5).await;
            }
        });

        let told = tokio::time::timeout(LONG, changes.settled()).await;

        writer.abort();
        assert_eq!(told, Ok(true));
    }
}

//! One daemon for one state directory.
//!
//! Two that share an ownership record would each remove what the other made.
//! The kernel lets go of the lock when the process ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::directory::{FILE, with_remedy};
use crate::record::prepare;

/// File name below the state directory.
pub const FILE_NAME: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
    path: PathBuf,
}

impl StateLock {
    /// Takes the lock of a state directory, which is made when there is none.
    ///
    /// # Errors
    /// The directory or the file cannot be made, or a running `kube-ipvs` holds it.
    pub fn acquire(directory: &Path) -> anyhow::Result<Self> {
        Self::try_acquire(directory)?.with_context(|| {
            format!(
                "another kube-ipvs runs with the state directory {}: stop it first, or give this one its own --state-dir",
                directory.display()
            )
        })
    }

    /// As [`Self::acquire`], but none when a running `kube-ipvs` holds it.
    ///
    /// # Errors
    /// The directory or the file cannot be made.
    pub fn try_acquire(directory: &Path) -> anyhow::Result<Option<Self>> {
        prepare(directory)?;
        let path = directory.join(FILE_NAME);
        let operation = || format!("lock {}", path.display());
        loop {
            let file = File::options()
                .create(true)
                .append(true)
                .mode(FILE)
                .open(&path)
                .map_err(with_remedy)
                .with_context(operation)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).with_context(operation),
            }
            // A cleanup may have taken the file away between our two steps.
            if is_still(&file, &path) {
                return Ok(Some(Self { _file: file, path }));
            }
        }
    }

    /// Whether a running `kube-ipvs` holds the lock. Makes no file.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn is_held(directory: &Path) -> anyhow::Result<bool> {
        let path = directory.join(FILE_NAME);
        let operation = || format!("look at lock {}", path.display());
        match File::open(&path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error).with_context(operation),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(operation),
        }
    }

    /// Lets go and takes the file along, and the directory when that is then empty.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
        // Not empty means that it is not only ours.
        let _ = self.path.parent().map(fs::remove_dir);
        Ok(())
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = StateLock::acquire(directory.path()).expect("nobody holds it");

        let error = StateLock::acquire(directory.path()).expect_err("it is held");

        assert!(error.to_string().starts_with("another kube-ipvs runs"));
        assert!(StateLock::is_held(directory.path()).expect("readable"));
        drop(first);
        assert!(!StateLock::is_held(directory.path()).expect("readable"));
        StateLock::acquire(directory.path()).expect("the first is gone");
    }

    #[test]
    fn nobody_else_can_open_the_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("state");

        let _lock = StateLock::acquire(&at).expect("nobody holds it");

        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&at), 0o700);
        assert_eq!(mode(&at.join(FILE_NAME)), 0o600);
    }

    #[test]
    fn looking_makes_nothing_and_removal_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("state");

        assert!(!StateLock::is_held(&at).expect("nothing to read"));
        assert!(!at.exists());
        let lock = StateLock::acquire(&at).expect("nobody holds it");
        lock.remove().expect("removed");

        assert!(!at.exists());
    }
}

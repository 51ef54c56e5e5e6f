//! The state directory: ours alone.
//!
//! Whoever may open the lock's file may hold the lock, and so keep a proxy from
//! starting; whoever may write the record decides what we remove. So the
//! directory is 0700 and its files are 0600, also those of earlier versions.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use nix::unistd::geteuid;

/// Mode of the directory.
const DIRECTORY: u32 = 0o700;
/// Mode of each file in it.
pub(crate) const FILE: u32 = 0o600;
/// What others may have: read, write and search.
const OTHERS: u32 = 0o077;
/// What others must not have: write.
const OTHERS_WRITE: u32 = 0o022;

/// The remedy of one who is not root, and lacks more than the directory.
const WITHOUT_ROOT: &str =
    "run as root (CAP_NET_ADMIN is needed too), or choose another --state-dir";

/// The remedy of one whose root is read-only, as a container's is.
const READ_ONLY: &str = "mount the node's directory there (in a pod a hostPath volume, as \
    deploy/base has it), or choose another --state-dir";

/// What owners are called that a user namespace has no number for.
const NOBODY: u32 = 65534;

/// What is ours in the directory, by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ours<'a> {
    /// Regular files.
    pub(crate) files: &'a [&'a str],
    /// Sockets: who listens makes them anew, closed to others.
    pub(crate) sockets: &'a [&'a str],
}

impl Ours<'_> {
    fn has(&self, name: &OsStr) -> bool {
        let mut all = self.files.iter().chain(self.sockets);
        all.any(|ours| name == *ours)
    }
}

/// Makes the directory if there is none, and takes away what others may do with
/// it and with our files in it.
///
/// # Errors
/// It is a link, no directory, somebody else's, or open to others and in use
/// for more than our files.
pub(crate) fn prepare(directory: &Path, ours: &Ours<'_>) -> anyhow::Result<()> {
    let operation = || format!("use state directory {}", directory.display());
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY);
    let made = builder.create(directory).map_err(with_remedy);
    made.with_context(|| format!("make state directory {}", directory.display()))?;
    let found = fs::symlink_metadata(directory).with_context(operation)?;
    anyhow::ensure!(
        !found.is_symlink(),
        "{}: it is a symbolic link, which its owner can turn; name the directory itself",
        operation()
    );
    anyhow::ensure!(
        found.uid() == geteuid().as_raw(),
        "{}: it belongs to user {} and not to {}, who runs this; {}",
        operation(),
        found.uid(),
        geteuid(),
        remedy_for(found.uid())
    );
    narrow_directory(directory, found.mode(), ours).with_context(operation)?;
    let mut files = ours.files.iter();
    files.try_for_each(|name| narrow(&directory.join(name)))
}

/// What to do about a directory of another user.
fn remedy_for(owner: u32) -> &'static str {
    if !geteuid().is_root() {
        WITHOUT_ROOT
    } else if owner == NOBODY {
        "where this is a user namespace (hostUsers: false), its root is nobody on the node and may \
         not change IPVS there: run without one; else remove it, or choose another --state-dir"
    } else {
        "remove it, or choose another --state-dir"
    }
}

/// A directory that holds more than our files is somebody else's matter too: it
/// may be read by others, since our files may not, but not be written.
fn narrow_directory(directory: &Path, mode: u32, ours: &Ours<'_>) -> anyhow::Result<()> {
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let mut alone = true;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        // Temporary files of a record that was being written begin so.
        alone &= ours.has(&name) || name.to_string_lossy().starts_with(".tmp");
    }
    if alone {
        return Ok(fs::set_permissions(
            directory,
            Permissions::from_mode(DIRECTORY),
        )?);
    }
    anyhow::ensure!(
        mode & OTHERS_WRITE == 0,
        "others may write there, and it holds more than our files; choose another --state-dir"
    );
    Ok(())
}

fn narrow(file: &Path) -> anyhow::Result<()> {
    let operation = || format!("look at {}", file.display());
    let found = match fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.with_context(operation)?,
    };
    anyhow::ensure!(
        found.is_file(),
        "{}: it is no regular file; remove it",
        operation()
    );
    if found.mode() & OTHERS != 0 {
        fs::set_permissions(file, Permissions::from_mode(FILE))
            .with_context(|| format!("keep others from {}", file.display()))?;
    }
    Ok(())
}

/// Who may not write there is mostly not root, and lacks more than that.
pub(crate) fn with_remedy(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::PermissionDenied => anyhow::anyhow!("{error}; {WITHOUT_ROOT}"),
        ErrorKind::ReadOnlyFilesystem => anyhow::anyhow!("{error}; {READ_ONLY}"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const OURS: Ours<'_> = Ours {
        files: &["lock", "owned.json"],
        sockets: &["answers.sock"],
    };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    /// A directory of this mode with files that all may read.
    fn wide(mode: u32, files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for name in files {
            let path = directory.path().join(name);
            fs::write(&path, "{}").expect("write");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).expect("chmod");
        directory
    }

    fn refusal(directory: &Path) -> String {
        let error = prepare(directory, &OURS).expect_err("it is refused");
        format!("{error:#}")
    }

    #[test]
    fn a_new_directory_is_ours_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("state");

        prepare(&directory, &OURS).expect("made");

        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn what_earlier_versions_left_open_is_closed() {
        let directory = wide(0o755, &["lock", "owned.json", ".tmpAbCdEf"]);

        prepare(directory.path(), &OURS).expect("usable");

        assert_eq!(mode(directory.path()), 0o700);
        for name in OURS.files {
            assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_directory_with_others_files_keeps_its_mode_and_ours_are_closed() {
        let directory = wide(0o755, &["lock", "somebody.pid"]);

        prepare(directory.path(), &OURS).expect("usable");

        assert_eq!(mode(directory.path()), 0o755);
        assert_eq!(mode(&directory.path().join("lock")), 0o600);
        assert_eq!(mode(&directory.path().join("somebody.pid")), 0o644);
    }

    #[test]
    fn a_directory_that_others_write_and_use_is_refused() {
        let directory = wide(0o1777, &["somebody.pid"]);

        let message = refusal(directory.path());

        assert!(message.contains("others may write there"), "{message}");
        assert_eq!(mode(directory.path()), 0o1777);
    }

    #[test]
    fn links_are_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let target = parent.path().join("target");
        fs::create_dir(&target).expect("a directory");
        let link = parent.path().join("link");
        symlink(&target, &link).expect("a link");
        assert!(refusal(&link).contains("symbolic link"));

        symlink("/etc/passwd", target.join("lock")).expect("a link");
        assert!(refusal(&target).contains("no regular file"));
    }

    #[test]
    fn a_socket_that_a_killed_daemon_left_is_ours_too() {
        let directory = wide(0o755, &["lock"]);
        let socket = directory.path().join("answers.sock");
        let left = std::os::unix::net::UnixListener::bind(&socket);
        drop(left.expect("a socket"));

        prepare(directory.path(), &OURS).expect("usable");

        assert_eq!(mode(directory.path()), 0o700);
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        // Root's, or when root runs this, one that it gave away.
        let given = tempfile::tempdir().expect("a directory");
        let nobody = nix::unistd::Uid::from_raw(65534);
        let theirs = match nix::unistd::chown(given.path(), Some(nobody), None) {
            Ok(()) => given.path(),
            Err(_) => Path::new("/usr"),
        };

        assert!(refusal(theirs).contains("belongs to user"));
    }

    #[test]
    fn one_who_may_not_write_there_is_told_what_to_do() {
        for (errno, remedy) in [
            (nix::errno::Errno::EACCES, "CAP_NET_ADMIN"),
            (nix::errno::Errno::EROFS, "hostPath"),
        ] {
            let message = with_remedy(errno.into()).to_string();

            assert!(message.contains(remedy), "{message}");
            assert!(message.contains("--state-dir"), "{message}");
        }
    }
}

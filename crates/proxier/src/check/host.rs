//! Where `/proc` and `/sys` are: the node's, or a test's.

use std::path::PathBuf;
use std::{fs, io};

/// A node to look at.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// The one we run on.
    pub(super) fn this() -> Self {
        Self { root: "/".into() }
    }

    /// A file or folder by its absolute path.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file without the white space around its text.
    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.path(path))?.trim().to_owned())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path).ok()?.parse().ok()
    }

    /// Names of all processes; only those in this PID namespace can be seen.
    pub(super) fn processes(&self) -> Vec<String> {
        let pids = self.pids();
        pids.filter_map(|pid| self.read(&format!("/proc/{pid}/comm")).ok())
            .collect()
    }

    /// Processes by number, of this PID namespace.
    pub(super) fn pids(&self) -> impl Iterator<Item = String> + use<> {
        let folders = self.names("/proc").into_iter();
        folders.filter(|name| name.bytes().all(|c| c.is_ascii_digit()))
    }

    /// Names in a folder, sorted; none when there is no such folder.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A node made of files.
    pub(in crate::check) struct Made {
        root: tempfile::TempDir,
        pub(in crate::check) host: Host,
    }

    /// A node with these files.
    pub(in crate::check) fn host(files: &[(&str, &str)]) -> Made {
        let root = tempfile::tempdir().expect("a folder");
        let host = Host {
            root: root.path().to_owned(),
        };
        let made = Made { root, host };
        for (path, text) in files {
            made.write(path, text);
        }
        made
    }

    impl Made {
        pub(in crate::check) fn write(&self, path: &str, text: &str) {
            let path = self.host.path(path);
            assert!(path.starts_with(self.root.path()));
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
    }
}

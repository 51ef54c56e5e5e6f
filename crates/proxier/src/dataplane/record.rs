//! The ownership record: which virtual servers are ours.
//!
//! The kernel does not say who made a virtual server, so we do, in a small
//! JSON file that lives as long as the kernel's own state does (below `/run`).
//! A server is recorded before it is made and struck out after it is removed:
//! a crash in between leaves a name too many, never one too few.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube_ipvs_core::state::VirtualServerKey;
use serde::{Deserialize, Serialize};

use super::sysctl::Changed;

/// File name below the state directory.
pub const FILE_NAME: &str = "owned.json";

/// What we own, with the Service each virtual server stands for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Virtual servers and the `namespace/name:port` they serve.
    #[serde(default)]
    pub virtual_servers: BTreeMap<VirtualServerKey, String>,
    /// Sysctls that we changed, with the values they had.
    #[serde(default)]
    pub sysctls: Vec<Changed>,
    /// IPVS time-outs, when we changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<ChangedTimeouts>,
}

/// IPVS time-outs before and after us, in seconds: TCP, TCP after FIN, UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTimeouts {
    /// What they were.
    pub old: [u32; 3],
    /// What we set.
    pub new: [u32; 3],
}

/// A record and the file it is kept in.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    record: Record,
    dirty: bool,
}

impl RecordFile {
    /// Reads the record of a state directory (`/run/kube-ipvs` unless told
    /// otherwise). A file that does not exist is an empty record.
    ///
    /// # Errors
    /// When it cannot be read or parsed. The file is left as it is.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE_NAME);
        let record = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!(
                    "parse ownership record {}; move it away to go on, virtual servers that it named are then nobody's",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("read ownership record {}", path.display()));
            }
        };
        Ok(Self {
            path,
            record,
            dirty: false,
        })
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Takes a virtual server in.
    pub fn add(&mut self, key: VirtualServerKey, service: String) {
        let before = self.record.virtual_servers.insert(key, service);
        self.dirty |= before.as_ref() != self.record.virtual_servers.get(&key);
    }

    /// Strikes a virtual server out.
    pub fn remove(&mut self, key: &VirtualServerKey) {
        self.dirty |= self.record.virtual_servers.remove(key).is_some();
    }

    /// Adds sysctls that were changed. The first value seen of each is kept:
    /// it is the one that was there before us.
    pub fn add_sysctls(&mut self, changed: impl IntoIterator<Item = Changed>) {
        for change in changed {
            if self
                .record
                .sysctls
                .iter()
                .all(|known| known.path != change.path)
            {
                self.record.sysctls.push(change);
                self.dirty = true;
            }
        }
    }

    /// Notes that IPVS time-outs were changed. The first values seen are kept.
    pub fn add_timeouts(&mut self, changed: ChangedTimeouts) {
        let old = self.record.timeouts.map_or(changed.old, |known| known.old);
        let next = Some(ChangedTimeouts { old, ..changed });
        self.dirty |= self.record.timeouts != next;
        self.record.timeouts = next;
    }

    /// Forgets the sysctls: they were put back, or are left for good.
    pub fn forget_sysctls(&mut self) {
        self.dirty |= !self.record.sysctls.is_empty();
        self.record.sysctls.clear();
    }

    /// Forgets the IPVS time-outs: they were put back, or are left for good.
    pub fn forget_timeouts(&mut self) {
        self.dirty |= self.record.timeouts.take().is_some();
    }

    /// Replaces the file in one step, if the record changed.
    ///
    /// # Errors
    /// When the directory or the file cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.dirty {
            self.replace()
                .with_context(|| format!("write ownership record {}", self.path.display()))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Removes the file, and its directory when that is then empty.
    ///
    /// # Errors
    /// When the file exists and cannot be removed.
    pub fn delete(self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("remove ownership record {}", self.path.display()));
            }
            _ => {}
        }
        // Not empty means that it is not only ours.
        let _ = self.path.parent().map(std::fs::remove_dir);
        Ok(())
    }

    fn replace(&self) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer(file.as_file_mut(), &self.record)?;
        file.as_file_mut().write_all(b"\n")?;
        file.persist(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(directory: &Path) -> RecordFile {
        let mut file = RecordFile::open(directory).unwrap();
        file.add(
            "[fd00::a]:53/UDP".parse().unwrap(),
            "kube-system/kube-dns:dns".to_owned(),
        );
        file.add("FWM 7 IPv6".parse().unwrap(), "default/web:http".to_owned());
        file.flush().unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("state");
        let written = filled(&at);
        assert_eq!(RecordFile::open(&at).unwrap().record(), written.record());
        assert_eq!(written.record().virtual_servers.len(), 2);
    }

    #[test]
    fn an_unchanged_record_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = filled(directory.path());
        std::fs::write(file.path(), "marker").unwrap();
        file.add("FWM 7 IPv6".parse().unwrap(), "default/web:http".to_owned());
        file.flush().unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "marker");
        file.remove(&"FWM 7 IPv6".parse().unwrap());
        file.flush().unwrap();
        assert_ne!(std::fs::read_to_string(file.path()).unwrap(), "marker");
    }

    #[test]
    fn the_first_values_seen_are_those_to_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RecordFile::open(directory.path()).unwrap();
        let first = ChangedTimeouts {
            old: [900, 120, 300],
            new: [7800, 120, 300],
        };
        file.add_timeouts(first);
        file.add_timeouts(ChangedTimeouts {
            old: first.new,
            new: [60, 120, 300],
        });
        file.flush().unwrap();

        let record = RecordFile::open(directory.path()).unwrap().record;
        let timeouts = record.timeouts.unwrap();
        assert_eq!(timeouts.old, [900, 120, 300]);
        assert_eq!(timeouts.new, [60, 120, 300]);
    }

    #[test]
    fn a_broken_file_is_an_error_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, "{\"virtual_servers\":").unwrap();
        let error = format!("{:#}", RecordFile::open(directory.path()).unwrap_err());
        assert!(error.starts_with("parse ownership record"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn removal_takes_the_directory_along_only_when_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("state");
        let file = filled(&at);
        std::fs::write(at.join("other"), "").unwrap();
        file.delete().unwrap();
        assert!(at.exists());
        std::fs::remove_file(at.join("other")).unwrap();
        filled(&at).delete().unwrap();
        assert!(!at.exists());
    }
}

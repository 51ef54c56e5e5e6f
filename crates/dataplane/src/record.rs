//! The ownership record: which virtual servers are ours.
//!
//! The kernel does not say who made a virtual server, so we do, in a small
//! JSON file that lives as long as the kernel's own state does (below `/run`).
//! A server is recorded before it is made and struck out after it is removed:
//! a crash in between leaves a name too many, never one too few.
//!
//! A change of a few virtual servers is a few lines appended to a journal, so
//! that it does not cost as much as the record is long. When the journal is
//! longer than that, the file is written anew and the journal begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube_ipvs_core::state::VirtualServerKey;
use serde::{Deserialize, Serialize};

use crate::directory::{self, FILE};
use crate::lock;
use crate::sysctl::Changed;

/// File name below the state directory.
pub const FILE_NAME: &str = "owned.json";
/// What changed since the file was written, a JSON object a line.
const JOURNAL: &str = "owned.journal";
/// The socket on which the daemon answers questions. It lies beside the record,
/// and is the daemon's to listen on.
pub const SOCKET: &str = "answers.sock";
/// The files of a record: when one of them has changed, so has it.
pub const FILES: [&str; 2] = [FILE_NAME, JOURNAL];
/// A journal as short as this is never too long.
const SHORT: usize = 1024;

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

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JournalLine {
    Add(VirtualServerKey, String),
    Remove(VirtualServerKey),
}

/// A record and the files it is kept in.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    record: Record,
    /// What is not in a file yet.
    pending: Vec<JournalLine>,
    /// Lines of the journal; none when there is no file that it could add to.
    journaled: Option<usize>,
    /// Something has changed that the journal cannot say.
    dirty: bool,
}

impl RecordFile {
    /// Reads the record of a state directory (`/run/kube-ipvs` unless told
    /// otherwise). A file that does not exist is an empty record.
    ///
    /// # Errors
    /// When it cannot be read or parsed. The file is left as it is.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let mut file = Self {
            path: directory.join(FILE_NAME),
            record: Record::default(),
            pending: Vec::new(),
            journaled: None,
            dirty: false,
        };
        // First the journal: if the file is written anew meanwhile, it says all
        // that the journal said, and to hear that twice does no harm.
        let journal = read(&file.journal())?.unwrap_or_default();
        let Some(text) = read(&file.path)? else {
            return Ok(file);
        };
        file.record = serde_json::from_slice(&text).with_context(|| unreadable(&file.path))?;
        file.journaled = file.replay(&journal)?;
        Ok(file)
    }

    /// Takes in what the journal says; gives how many lines it has, and none
    /// when its last one was cut short by a crash: that change was not made.
    fn replay(&mut self, journal: &[u8]) -> anyhow::Result<Option<usize>> {
        let whole = journal.iter().rposition(|byte| *byte == b'\n');
        let (lines, torn) = journal.split_at(whole.map_or(0, |last| last + 1));
        let mut count = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            count += 1;
            match serde_json::from_slice(line).with_context(|| unreadable(&self.journal()))? {
                JournalLine::Add(key, service) => {
                    drop(self.record.virtual_servers.insert(key, service))
                }
                JournalLine::Remove(key) => drop(self.record.virtual_servers.remove(&key)),
            }
        }
        Ok(torn.is_empty().then_some(count))
    }

    fn journal(&self) -> PathBuf {
        self.path.with_file_name(JOURNAL)
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
        let known = self.record.virtual_servers.get(&key);
        if known != Some(&service) {
            self.pending.push(JournalLine::Add(key, service.clone()));
            self.record.virtual_servers.insert(key, service);
        }
    }

    /// Strikes a virtual server out.
    pub fn remove(&mut self, key: &VirtualServerKey) {
        if self.record.virtual_servers.remove(key).is_some() {
            self.pending.push(JournalLine::Remove(*key));
        }
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

    /// Writes what changed, if anything did.
    ///
    /// # Errors
    /// When the directory or a file cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() && !self.dirty {
            return Ok(());
        }
        // Taken: after an error nobody knows what stands there.
        let journaled = self.journaled.take().filter(|_| !self.dirty);
        let lines = journaled.map(|lines| lines + self.pending.len());
        let longest = self.record.virtual_servers.len().max(SHORT);
        self.journaled = match lines.filter(|lines| *lines <= longest) {
            Some(lines) => {
                self.append()
                    .with_context(|| format!("write {}", self.journal().display()))?;
                Some(lines)
            }
            None => {
                self.replace()
                    .with_context(|| format!("write ownership record {}", self.path.display()))?;
                Some(0)
            }
        };
        // That of a cold start would stay as long as its list was.
        self.pending = Vec::new();
        self.dirty = false;
        Ok(())
    }

    /// Virtual servers that were taken in and stand in no file yet.
    pub fn unwritten(&self) -> BTreeSet<VirtualServerKey> {
        let added = self.pending.iter().filter_map(|change| match change {
            JournalLine::Add(key, _) => Some(*key),
            JournalLine::Remove(_) => None,
        });
        added.collect()
    }

    /// Removes the files, and their directory when that is then empty.
    ///
    /// # Errors
    /// When one exists and cannot be removed.
    pub fn delete(self) -> anyhow::Result<()> {
        // The journal is worth nothing without the file, which so goes last.
        for path in [self.journal(), self.path.clone()] {
            remove(&path).with_context(|| format!("remove ownership record {}", path.display()))?;
        }
        // Left over: who takes the record away holds the lock, so nobody listens.
        let socket = self.path.with_file_name(SOCKET);
        remove(&socket).with_context(|| format!("remove {}", socket.display()))?;
        // Not empty means that it is not only ours.
        let _ = self.path.parent().map(std::fs::remove_dir);
        Ok(())
    }

    fn replace(&self) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        prepare(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        let mut text = BufWriter::new(file.as_file_mut());
        serde_json::to_writer(&mut text, &self.record)?;
        text.write_all(b"\n")?;
        text.flush()?;
        drop(text);
        file.persist(&self.path)?;
        // All that it says is in the file; said twice does no harm.
        remove(&self.journal())?;
        Ok(())
    }

    fn append(&self) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for change in &self.pending {
            serde_json::to_writer(&mut text, change)?;
            text.push(b'\n');
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .mode(FILE)
            .open(self.journal())?;
        file.write_all(&text)?;
        Ok(())
    }
}

/// Makes the state directory, for us alone.
///
/// # Errors
/// See [`directory::prepare`].
pub(crate) fn prepare(directory: &Path) -> anyhow::Result<()> {
    let ours = directory::Ours {
        files: &[lock::FILE_NAME, FILE_NAME, JOURNAL],
        sockets: &[SOCKET],
    };
    directory::prepare(directory, &ours)
}

/// What a file says; none when there is no such file.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("read ownership record {}", path.display()))
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unreadable(path: &Path) -> String {
    format!(
        "parse ownership record {}; move it away to go on, virtual servers that it named are then nobody's",
        path.display()
    )
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
        assert!(!file.journal().exists());
        file.add_sysctls([Changed {
            path: "net/ipv4/ip_forward".to_owned(),
            old: "0".to_owned(),
            new: "1".to_owned(),
            reason: "a test".to_owned(),
        }]);
        file.flush().unwrap();
        assert_ne!(std::fs::read_to_string(file.path()).unwrap(), "marker");
    }

    #[test]
    fn a_change_is_appended_until_the_journal_is_longer_than_the_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = filled(directory.path());
        let key: VirtualServerKey = "FWM 7 IPv6".parse().unwrap();
        file.remove(&key);
        file.flush().unwrap();
        file.add(key, "default/other:http".to_owned());
        file.flush().unwrap();
        let journal = std::fs::read_to_string(file.journal()).unwrap();
        assert_eq!(
            journal,
            "{\"remove\":\"FWM 7 IPv6\"}\n{\"add\":[\"FWM 7 IPv6\",\"default/other:http\"]}\n"
        );
        let read = RecordFile::open(directory.path()).unwrap();
        assert_eq!(read.record(), file.record());

        for _ in 0..SHORT / 2 {
            file.remove(&key);
            file.add(key, "default/web:http".to_owned());
            file.flush().unwrap();
        }
        assert!(!file.journal().exists(), "the file was written anew");
        let read = RecordFile::open(directory.path()).unwrap();
        assert_eq!(read.record(), file.record());
    }

    #[test]
    fn a_line_cut_short_is_no_change_and_is_not_written_behind() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = filled(directory.path());
        file.remove(&"FWM 7 IPv6".parse().unwrap());
        file.flush().unwrap();
        let mut text = std::fs::read(file.journal()).unwrap();
        text.extend(b"{\"remove\":\"[fd00::a]:53");
        std::fs::write(file.journal(), &text).unwrap();

        let mut again = RecordFile::open(directory.path()).unwrap();
        assert_eq!(again.record(), file.record());
        again.add("10.96.0.1:80/TCP".parse().unwrap(), String::new());
        again.flush().unwrap();
        let read = RecordFile::open(directory.path()).unwrap();
        assert_eq!(read.record(), again.record());
    }

    #[test]
    fn a_journal_without_its_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = filled(directory.path());
        file.add("10.96.0.1:80/TCP".parse().unwrap(), String::new());
        file.flush().unwrap();
        std::fs::remove_file(file.path()).unwrap();
        let read = RecordFile::open(directory.path()).unwrap();
        assert_eq!(read.record(), &Record::default());
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

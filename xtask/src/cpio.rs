//! Writer of the kernel's initramfs format, `newc` cpio.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive in memory. Equal input gives equal bytes: everything belongs to
/// root and no times are kept.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// A directory; its parents must have been added.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// A regular file with permission bits `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, content);
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    /// Everything under `root`, in the order of names.
    pub(crate) fn tree(&mut self, root: &Path) -> Result<()> {
        self.below(root, "")
    }

    /// The finished archive, padded so that another one may follow.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn below(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let mut entries = fs::read_dir(directory)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .with_context(|| format!("list {}", directory.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.path().symlink_metadata()?;
            if metadata.is_dir() {
                self.directory(&path);
                self.below(&entry.path(), &format!("{path}/"))?;
            } else if metadata.is_symlink() {
                self.link(&path, &fs::read_link(entry.path())?.to_string_lossy());
            } else {
                debug_assert!(
                    metadata.size() < u64::from(u32::MAX),
                    "newc sizes have 32 bits"
                );
                self.file(
                    &path,
                    metadata.permissions().mode() & 0o777,
                    &fs::read(entry.path())?,
                );
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let fields = [
            self.inode,
            mode,
            0, // user
            0, // group
            links,
            0, // time
            content.len() as u32,
            0,
            0,
            0,
            0, // devices
            path.len() as u32 + 1,
            0, // check sum, unused
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_headers_names_and_contents_in_fours() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hello");

        let bytes = archive.finish();

        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081A4", "mode of a regular file");
        assert_eq!(&bytes[54..62], b"00000005", "size of the content");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 512, 0);
    }
}

//! Archives with the same bytes for the same files, and their sums.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType};

use crate::image::{append, compressed, digest};

/// Names and contents of all files below a directory, in the order of names.
pub(crate) fn tree(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let below = tree(&entry.path())?.into_iter();
            files.extend(below.map(|(below, content)| (format!("{name}/{below}"), content)));
        } else {
            let content = fs::read(entry.path());
            files.push((
                name.clone(),
                content.with_context(|| format!("read {name}"))?,
            ));
        }
    }
    files.sort();
    Ok(files)
}

/// A compressed archive of files that belong to root and are of one time, in
/// seconds since 1970.
pub(crate) fn tar_gz(mut files: Vec<(String, Vec<u8>)>, time: u64) -> Result<Vec<u8>> {
    files.sort();
    let mut tar = Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut tar, EntryType::Regular, 0o644, &name, &content, time)?;
    }
    compressed(&tar.into_inner().context("finish the archive")?)
}

/// A line for each file, as `sha256sum` writes it.
pub(crate) fn sums(directory: &Path) -> Result<String> {
    let lines = tree(directory)?.into_iter().map(|(name, content)| {
        let sum = digest(&content);
        format!("{}  {name}\n", sum.trim_start_matches("sha256:"))
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tools;

    #[test]
    fn the_order_of_files_makes_no_difference_and_their_content_does() {
        let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
        let (a, b) = (file("a", "1"), file("b/c", "2"));

        let one = tar_gz(vec![a.clone(), b.clone()], 7).expect("an archive");
        let two = tar_gz(vec![b, a.clone()], 7).expect("an archive");

        assert_eq!(one, two);
        assert_ne!(
            one,
            tar_gz(vec![a, file("b/c", "3")], 7).expect("an archive")
        );
    }

    #[test]
    fn sha256sum_agrees() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("b"), "hello").expect("a file");
        fs::create_dir(directory.path().join("a")).expect("a directory");
        fs::write(directory.path().join("a/c"), "").expect("a file");
        let sums = sums(directory.path()).expect("sums");
        fs::write(directory.path().join("SUMS"), &sums).expect("a file");

        let mut check = Command::new("sha256sum");
        check.current_dir(directory.path()).args(["-c", "SUMS"]);

        assert_eq!(
            tools::text(&mut check).expect("they are right"),
            "a/c: OK\nb: OK\n"
        );
    }
}

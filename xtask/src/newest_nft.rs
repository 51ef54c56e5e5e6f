//! The newest `nft` that Debian has, for the guest with the newest kernel: it
//! brings its own libraries, since those of this machine may be too old for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::Private;
use crate::paths::{Paths, make_directory, stamp};
use crate::tools;

const SUITE: &str = "sid";
const PACKAGE: &str = "nftables";
/// Where it lies in the guest, with a program `nft-newest` that starts it.
const PLACE: &str = "opt/nft-newest";
const START: &str =
    "#!/bin/sh\ncd /opt/nft-newest && exec ./loader --library-path . ./nft \"$@\"\n";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Its unpacked packages.
pub(crate) struct NewestNft {
    root: PathBuf,
}

impl NewestNft {
    /// A copy kept from before is used.
    pub(crate) fn fetch(paths: &Paths) -> Result<Self> {
        let kept = paths.vm()?.join("nft-newest");
        if !kept.join("complete").exists() {
            eprintln!("xtask: fetching nft of {SUITE}");
            download(&kept).context("fetch the newest nft")?;
        }
        let root = kept.join("root");
        Ok(Self { root })
    }

    fn program(&self) -> PathBuf {
        self.root.join("usr/sbin/nft")
    }

    fn loader(&self) -> PathBuf {
        self.root.join(LIBRARIES).join("ld-linux-x86-64.so.2")
    }

    /// A word that differs when it changes.
    pub(crate) fn stamp(&self) -> Result<String> {
        stamp(&self.program())
    }

    /// Puts it into the guest's root file system.
    pub(crate) fn add(&self, root: &Path) -> Result<()> {
        let place = make_directory(root.join(PLACE))?;
        fs::copy(self.program(), place.join("nft"))?;
        fs::copy(self.loader(), place.join("loader"))?;
        for library in self.libraries()? {
            let name = library.file_name().context("a library has a name")?;
            fs::copy(&library, place.join(name))?;
        }
        let start = root.join("usr/bin/nft-newest");
        fs::write(&start, START)?;
        tools::run(Command::new("chmod").arg("755").arg(start))
    }

    /// Those that the loader finds for it.
    fn libraries(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join(LIBRARIES);
        let mut list = Command::new(self.loader());
        list.arg("--library-path").arg(&folder).arg("--list");
        let listing = tools::text(list.arg(self.program()))?;
        let words = listing.split_whitespace().map(PathBuf::from);
        Ok(words.filter(|word| word.starts_with(&folder)).collect())
    }
}

fn download(kept: &Path) -> Result<()> {
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    let debs = make_directory(kept.join("debs"))?;
    let root = make_directory(kept.join("root"))?;
    let archive = Private::new(kept.join("apt"), SUITE)?;
    let mut download = archive.command("apt-get");
    download.args(["-qq", "download"]).current_dir(&debs);
    tools::run(download.args(closure(&archive)?))?;
    for deb in fs::read_dir(&debs)? {
        tools::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&root))?;
    }
    fs::remove_dir_all(&debs)?;
    fs::write(kept.join("complete"), "").context("mark it as complete")
}

/// The package and all that it depends on.
fn closure(archive: &Private) -> Result<Vec<String>> {
    let listing = tools::text(archive.command("apt-cache").args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
        PACKAGE,
    ]))?;
    Ok(packages(&listing))
}

/// Names at the start of a line. What is alike is indented, and a virtual
/// package stands in brackets.
fn packages(listing: &str) -> Vec<String> {
    let starts = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphanumeric());
    listing.lines().filter(starts).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_packages_are_told_from_what_they_depend_on() {
        let listing = "nftables\n  Depends: libnftables1\n  Depends: <editor>\nlibnftables1\n\
                       <editor>\n    vim\n";

        assert_eq!(packages(listing), ["nftables", "libnftables1"]);
    }
}

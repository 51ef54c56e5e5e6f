//! What the guest needs from the host's distribution.
//!
//! Debian and Ubuntu: installed by apt. Elsewhere the missing programs are
//! named, with the Debian package each one comes from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::tools;

/// A program and the Debian package that has it.
pub(crate) struct Need(pub(crate) &'static str, pub(crate) &'static str);

/// Needed on the host to make and run the image.
const HOST: &[Need] = &[
    Need("qemu-system-x86_64", "qemu-system-x86"),
    Need("depmod", "kmod"),
    Need("zstd", "zstd"),
    Need("xz", "xz-utils"),
    Need("ldd", "libc-bin"),
    Need("setpriv", "util-linux"),
];

/// Copied into the guest, and used by the tests on this machine with `--native`.
pub(crate) const GUEST: &[Need] = &[
    Need("busybox", "busybox-static"),
    Need("bash", "bash"),
    Need("kmod", "kmod"),
    Need("ip", "iproute2"),
    Need("ss", "iproute2"),
    Need("bridge", "iproute2"),
    Need("ipvsadm", "ipvsadm"),
    Need("nft", "nftables"),
    Need("conntrack", "conntrack"),
    Need("curl", "curl"),
    Need("xtables-nft-multi", "iptables"),
    Need("xtables-legacy-multi", "iptables"),
    Need("ipset", "ipset"),
];

const LISTS: &str = "/var/lib/apt/lists";
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Makes sure that everything for a VM is there.
pub(crate) fn need_vm() -> Result<()> {
    need(HOST.iter().chain(GUEST))
}

/// Makes sure that what the tests themselves run is there.
pub(crate) fn need_native() -> Result<()> {
    need(
        GUEST
            .iter()
            .filter(|need| !matches!(need.0, "busybox" | "kmod")),
    )
}

/// Whether this is a system with apt.
pub(crate) fn present() -> bool {
    tools::find("apt-get").is_some() && Path::new("/var/lib/dpkg/status").exists()
}

/// Refreshes the package lists when there are none or they are a day old:
/// a kernel they name is gone from the mirror when a newer one came.
pub(crate) fn refresh() -> Result<()> {
    if lists_are_fresh() { Ok(()) } else { update() }
}

/// `apt-get update`.
pub(crate) fn update() -> Result<()> {
    eprintln!("xtask: apt-get update");
    tools::run(
        as_root("apt-get")
            .args(["-qq", "update"])
            .stdin(std::process::Stdio::null()),
    )
}

/// Makes sure that these programs are there.
pub(crate) fn need<'a>(needs: impl Iterator<Item = &'a Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| tools::find(need.0).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.1).collect();
    packages.sort_unstable();
    packages.dedup();
    if !present() {
        let programs: Vec<&str> = missing.iter().map(|need| need.0).collect();
        bail!(
            "missing programs: {}; install them and try again (on Debian they are in: {})",
            programs.join(" "),
            packages.join(" ")
        );
    }
    refresh()?;
    eprintln!("xtask: apt-get install {}", packages.join(" "));
    tools::run(
        as_root("apt-get")
            .args(["-qq", "install", "-y", "--no-install-recommends"])
            .args(&packages)
            .stdin(std::process::Stdio::null())
            .stdout(std::io::stderr()),
    )
    .with_context(|| format!("install {}", packages.join(" ")))
}

fn as_root(program: &str) -> Command {
    let mut command = if tools::is_root() {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", program]);
    command
}

fn lists_are_fresh() -> bool {
    let Ok(entries) = fs::read_dir(LISTS) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        .filter_map(|_| fs::metadata(LISTS).and_then(|lists| lists.modified()).ok())
        .any(|changed| {
            SystemTime::now()
                .duration_since(changed)
                .is_ok_and(|age| age < STALE)
        })
}

/// An apt of our own for another release: its lists and cache lie under
/// `directory`, its mirror is the one the system itself uses.
pub(crate) struct Private {
    directory: PathBuf,
}

impl Private {
    /// Sets it up for `suite` and fetches its lists.
    pub(crate) fn new(directory: PathBuf, suite: &str) -> Result<Self> {
        let mirror = mirror().context("find the Debian mirror in the system's apt sources")?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(
            directory.join("sources.list"),
            format!("deb [signed-by={keys}] {mirror} {suite} main\n"),
        )?;
        let private = Self { directory };
        tools::run(private.command("apt-get").args(["-qq", "update"]))
            .with_context(|| format!("fetch the package lists of {suite}"))?;
        Ok(private)
    }

    /// `program` (`apt-get`, `apt-cache`) told to use our lists only.
    pub(crate) fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(program);
        command
            .args([
                "-o",
                &format!("Dir::Etc::SourceList={}", at("sources.list")),
            ])
            .args(["-o", "Dir::Etc::SourceParts=-"])
            .args(["-o", &format!("Dir::State::Lists={}", at("lists"))])
            .args(["-o", &format!("Dir::Cache={}", at("cache"))])
            .args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// The address of the Debian archive in the system's own sources.
fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.filter_map(Result::ok).map(|part| part.path()));
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|t| archive_in(&t))
}

/// The first archive address that ends in `/debian`, in either of apt's forms.
fn archive_in(sources: &str) -> Option<String> {
    sources
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_forms_of_sources() {
        let deb822 = "Types: deb\n# URIs: http://old.test/debian\nURIs: http://a.test/debian\n";
        let one_line = "# deb http://old.test/debian x main\ndeb [arch=amd64] http://b.test/debian/ bookworm main\n";

        assert_eq!(archive_in(deb822).as_deref(), Some("http://a.test/debian"));
        assert_eq!(
            archive_in(one_line).as_deref(),
            Some("http://b.test/debian/")
        );
        assert_eq!(archive_in("deb http://a.test/debian-security x main"), None);
    }
}

//! The guest's kernel: resolved and fetched by apt, unpacked under the target
//! directory. Never pinned, since a version disappears from the mirror when a
//! newer one comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Private};
use crate::paths::{Paths, make_directory};
use crate::tools;

/// An unpacked kernel package.
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// Directory that holds `lib/modules/RELEASE`.
    pub(crate) base: PathBuf,
}

/// Meta-packages that depend on the current kernel: Debian's, then Ubuntu's.
const META: &[&str] = &["linux-image-cloud-amd64", "linux-image-virtual"];

/// The newest kernel that Debian has.
pub(crate) const NEWEST: &str = "newest";

/// Debian suites by the kernel version they carry.
const SUITES: &[(&str, &str)] = &[
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "bookworm-backports"),
    (NEWEST, "sid"),
];

impl Kernel {
    /// The kernel called `name`: `system`, a version of [`SUITES`], or a Debian
    /// suite. A copy kept from before is used unless `update`.
    pub(crate) fn fetch(paths: &Paths, name: &str, update: bool) -> Result<Self> {
        let kept = paths.vm()?.join(format!("kernel-{name}"));
        if update || !kept.join("complete").exists() {
            eprintln!("xtask: fetching kernel {name}");
            download(&kept, name).with_context(|| format!("fetch kernel {name}"))?;
        }
        Self::open(&kept.join("root"))
    }

    fn open(base: &Path) -> Result<Self> {
        let release = only_entry(&base.join("lib/modules"))?;
        // Debian's since 7.0 lies beside its modules.
        let places = [
            format!("boot/vmlinuz-{release}"),
            format!("lib/modules/{release}/vmlinuz"),
        ];
        let mut images = places.iter().map(|place| base.join(place));
        let image = images.find(|image| image.exists());
        let image = image.with_context(|| {
            format!(
                "the kernel package has neither {} in {}",
                places.join(" nor "),
                base.display()
            )
        })?;
        Ok(Self {
            release,
            image,
            base: base.to_owned(),
        })
    }
}

fn download(kept: &Path, name: &str) -> Result<()> {
    if !apt::present() {
        bail!(
            "fetching a kernel needs apt; elsewhere unpack a kernel package with ip_vs into {}/root \
             (boot/vmlinuz-RELEASE and lib/modules/RELEASE) and make an empty file `complete` beside it",
            kept.display()
        );
    }
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    let debs = make_directory(kept.join("debs"))?;
    let root = make_directory(kept.join("root"))?;
    let archive = Archive::open(kept, name)?;
    for package in archive.packages()? {
        tools::run(
            archive
                .command("apt-get")
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download", &package])
                .current_dir(&debs),
        )?;
    }
    for deb in fs::read_dir(&debs)? {
        tools::run(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(&root))?;
    }
    if !root.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
    }
    let release = only_entry(&root.join("lib/modules"))?;
    tools::run(Command::new("depmod").arg("-b").arg(&root).arg(&release))?;
    fs::remove_dir_all(&debs)?;
    fs::write(kept.join("complete"), &release).context("mark the kernel as complete")
}

/// Where packages come from: the system's apt, or one of our own.
enum Archive {
    System,
    Private(Private),
}

impl Archive {
    fn open(kept: &Path, name: &str) -> Result<Self> {
        let suite = SUITES
            .iter()
            .find(|(version, _)| *version == name)
            .map_or(name, |s| s.1);
        if name == "system" || Some(suite) == codename().as_deref() {
            apt::refresh()?;
            return Ok(Self::System);
        }
        Ok(Self::Private(Private::new(kept.join("apt"), suite)?))
    }

    fn command(&self, program: &str) -> Command {
        match self {
            Self::System => Command::new(program),
            Self::Private(private) => private.command(program),
        }
    }

    /// The kernel's own packages, from what the meta-package depends on.
    fn packages(&self) -> Result<Vec<String>> {
        for meta in META {
            let found = self.dependencies(meta)?;
            let Some(image) = found.iter().find(|name| name.starts_with("linux-image-")) else {
                continue;
            };
            let parts = parts_of(image, self.dependencies(image)?);
            return Ok(std::iter::once(image.clone()).chain(parts).collect());
        }
        bail!("apt knows none of {}", META.join(", "))
    }

    fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text =
            tools::text(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            );
        Ok(dependencies_in(&text.unwrap_or_default()))
    }
}

/// The packages a kernel image is split into: those of its own release among
/// what it depends on. Ubuntu keeps the modules apart; Debian, since 7.0, the
/// modules, the bootable image (`linux-binary-`) and the list of what is built
/// in (`linux-base-`), and leaves the package that all depend on empty.
fn parts_of(image: &str, dependencies: Vec<String>) -> Vec<String> {
    let release = image.trim_start_matches("linux-image-");
    let own = |name: &String| {
        ["linux-modules-", "linux-binary-", "linux-base-"]
            .iter()
            .any(|part| name.strip_prefix(part) == Some(release))
    };
    dependencies.into_iter().filter(own).collect()
}

/// Package names in the first `Depends:` field.
fn dependencies_in(record: &str) -> Vec<String> {
    record
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))
        .into_iter()
        .flat_map(|list| list.split([',', '|']))
        .filter_map(|entry| entry.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn only_entry(directory: &Path) -> Result<String> {
    let mut entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let first = entries
        .next()
        .with_context(|| format!("{} is empty", directory.display()))??;
    Ok(first.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_kernel_brings_the_packages_of_its_own_release() {
        let split = "Depends: dracut | linux-initramfs-tool, linux-base (>= 4.12~), \
                     linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), \
                     linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), \
                     linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), \
                     linux-modules-7.1.1-cloud-amd64";
        let image = "linux-image-7.2.13+deb14-cloud-amd64";

        assert_eq!(
            parts_of(image, dependencies_in(split)),
            ["base", "binary", "modules"].map(|part| image.replace("image", part))
        );
    }

    #[test]
    fn dependencies_lose_their_versions() {
        let record = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), kmod | busybox\n";

        assert_eq!(
            dependencies_in(record),
            ["linux-image-6.1.0-56-cloud-amd64", "kmod", "busybox"]
        );
        assert!(dependencies_in("").is_empty());
    }
}

//! The guest's root file system.
//!
//! Two archives, one behind the other, which the kernel unpacks in order: the
//! base (kernel modules, tools, `/init`), compressed and kept until one of its
//! inputs changes; and a small one a run with our own programs and the job.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::cpio::Archive;
use crate::kernel::{Kernel, NEWEST};
use crate::newest_nft::NewestNft;
use crate::paths::{Paths, stamp};
use crate::tools;

const INIT: &str = include_str!("../guest/init");
const PROTOCOLS: &str =
    "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n";
const SERVICES: &str = "http 80/tcp\nhttps 443/tcp\ndomain 53/tcp\ndomain 53/udp\n";

/// Modules taken whole by folder or file name, below `kernel/`; what they
/// depend on comes along.
const MODULES: &[&str] = &[
    "net/netfilter/",
    "net/ipv4/",
    "net/ipv6/",
    "net/bridge/",
    "net/sctp/",
    "net/packet/",
    "net/unix/",
    "net/netlink/",
    "drivers/net/dummy.ko",
    "drivers/net/veth.ko",
    "drivers/net/vxlan/",
    "drivers/net/geneve.ko",
    "drivers/net/ipvlan/",
    "drivers/net/macvlan.ko",
    "drivers/net/nlmon.ko",
    "drivers/net/tun.ko",
    "drivers/net/vrf.ko",
    "drivers/net/virtio_net.ko",
    "drivers/virtio/",
    "net/sched/sch_netem.ko",
    "arch/x86/crypto/crc32c-intel.ko",
    "crypto/crc32c_generic.ko",
    "crypto/hmac.ko",
    "crypto/sha1_generic.ko",
    "crypto/sha256_generic.ko",
    "crypto/md5.ko",
];

/// The base image for `kernel`, built when there is none or an input changed.
pub(crate) fn base(paths: &Paths, kernel: &Kernel, name: &str) -> Result<PathBuf> {
    let image = paths.vm()?.join(format!("image-{name}.cpio.zst"));
    let kept_inputs = paths.vm()?.join(format!("image-{name}.inputs"));
    let programs = programs()?;
    let nft = match name {
        NEWEST => Some(NewestNft::fetch(paths)?),
        _ => None,
    };
    let mut inputs = inputs(kernel, &programs)?;
    if let Some(nft) = &nft {
        inputs += &nft.stamp()?;
    }
    if image.exists() && fs::read_to_string(&kept_inputs).is_ok_and(|kept| kept == inputs) {
        return Ok(image);
    }
    eprintln!("xtask: building the guest image for {}", kernel.release);
    let root = tempfile::tempdir_in(paths.vm()?)?;
    lay_out(root.path(), kernel, &programs).context("lay out the guest image")?;
    if let Some(nft) = nft {
        nft.add(root.path()).context("add the newest nft")?;
    }
    let mut archive = Archive::default();
    archive.tree(root.path())?;
    compress(&archive.finish(), &image)?;
    fs::write(&kept_inputs, inputs)?;
    Ok(image)
}

/// A program of ours: its name in the guest, and where it is here.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// The archive of one run: programs into `/opt/kube-ipvs/bin`, beside them the
/// script to run and the settings `/init` reads.
pub(crate) fn overlay(programs: &[Program], job: &str, settings: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["opt", "opt/kube-ipvs", "opt/kube-ipvs/bin"] {
        archive.directory(directory);
    }
    for program in programs {
        let content =
            fs::read(&program.path).with_context(|| format!("read {}", program.path.display()))?;
        archive.file(
            &format!("opt/kube-ipvs/bin/{}", program.name),
            0o755,
            &content,
        );
        archive.link(
            &format!("usr/bin/{}", program.name),
            &format!("/opt/kube-ipvs/bin/{}", program.name),
        );
    }
    archive.file("opt/kube-ipvs/job", 0o755, job.as_bytes());
    archive.file("opt/kube-ipvs/settings", 0o644, settings.as_bytes());
    Ok(archive.finish())
}

fn programs() -> Result<Vec<PathBuf>> {
    let find = |name: &str| tools::find(name).with_context(|| format!("no program {name}"));
    apt::GUEST.iter().map(|need| find(need.0)).collect()
}

fn inputs(kernel: &Kernel, programs: &[PathBuf]) -> Result<String> {
    let mut lines = vec![
        kernel.release.clone(),
        MODULES.join(" "),
        PROTOCOLS.into(),
        INIT.into(),
    ];
    for program in programs {
        lines.push(stamp(program)?);
    }
    lines.push(include_str!("initramfs.rs").to_owned());
    Ok(lines.join("\n"))
}

fn lay_out(root: &Path, kernel: &Kernel, programs: &[PathBuf]) -> Result<()> {
    for directory in [
        "bin",
        "dev",
        "etc",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "var/run",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    // As on a merged-/usr host, where the same file goes by both names.
    for (link, target) in [
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        symlink(target, root.join(link))?;
    }
    for program in programs {
        add_program(root, program)?;
    }
    add_plugins(root)?;
    add_names(root)?;
    add_applets(root)?;
    add_modules(root, kernel)?;
    write(root, "init", INIT)?;
    make_executable(&root.join("init"))?;
    write(root, "etc/protocols", PROTOCOLS)?;
    write(root, "etc/services", SERVICES)?;
    write(
        root,
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    write(root, "etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    write(root, "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    write(
        root,
        "etc/nsswitch.conf",
        "hosts: files dns\nprotocols: files\nservices: files\n",
    )
}

fn add_program(root: &Path, program: &Path) -> Result<()> {
    copy(root, program, program)?;
    for library in tools::libraries(program) {
        copy(root, &library, &library)?;
    }
    Ok(())
}

/// iptables opens its extensions by name.
fn add_plugins(root: &Path) -> Result<()> {
    for directory in [
        "/usr/lib/x86_64-linux-gnu/xtables",
        "/usr/lib64/xtables",
        "/usr/lib/xtables",
    ] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            copy(root, &entry.path(), &entry.path())?;
        }
    }
    Ok(())
}

/// Programs that look at the name they are called by.
fn add_names(root: &Path) -> Result<()> {
    symlink("../bin/kmod", root.join("usr/sbin/modprobe")).or_else(ignore_existing)?;
    for name in ["modprobe", "lsmod", "depmod"] {
        let at = if root.join("usr/bin/kmod").exists() {
            "../bin/kmod"
        } else {
            "/bin/kmod"
        };
        let link = root.join("usr/sbin").join(name);
        if name == "modprobe" {
            let _ = fs::remove_file(&link);
        }
        symlink(at, link).or_else(ignore_existing)?;
    }
    for family in ["iptables", "ip6tables"] {
        for action in ["", "-save", "-restore"] {
            for (flavour, multi) in [
                ("-nft", "xtables-nft-multi"),
                ("-legacy", "xtables-legacy-multi"),
            ] {
                symlink(
                    multi,
                    root.join(format!("usr/sbin/{family}{flavour}{action}")),
                )
                .or_else(ignore_existing)?;
            }
            symlink(
                "xtables-nft-multi",
                root.join(format!("usr/sbin/{family}{action}")),
            )
            .or_else(ignore_existing)?;
        }
    }
    Ok(())
}

fn ignore_existing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        Ok(())
    } else {
        Err(error)
    }
}

/// Busybox fills in for every program we did not bring.
fn add_applets(root: &Path) -> Result<()> {
    let busybox = tools::find("busybox").context("no program busybox")?;
    let _ = fs::remove_file(root.join("bin/busybox"));
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for applet in tools::text(Command::new(&busybox).arg("--list"))?.lines() {
        let taken = ["bin", "usr/bin", "usr/sbin"]
            .iter()
            .any(|at| root.join(at).join(applet).symlink_metadata().is_ok());
        if !taken {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}

fn add_modules(root: &Path, kernel: &Kernel) -> Result<()> {
    let from = kernel.base.join("lib/modules").join(&kernel.release);
    let to = root.join("usr/lib/modules").join(&kernel.release);
    let listing = fs::read_to_string(from.join("modules.dep")).context("read modules.dep")?;
    for module in wanted_modules(&listing) {
        let path = to.join(&module);
        fs::create_dir_all(path.parent().context("a module lies in a folder")?)?;
        match module.strip_suffix(".xz") {
            Some(plain) => fs::write(
                to.join(plain),
                tools::output(Command::new("xz").arg("-dc").arg(from.join(&module)))?,
            )?,
            None => fs::copy(from.join(&module), path).map(|_| ())?,
        }
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(from.join(list), to.join(list))?;
    }
    tools::run(
        Command::new("depmod")
            .arg("-b")
            .arg(root)
            .arg(&kernel.release),
    )
}

/// Paths of [`MODULES`] and of all they depend on; `listing` is a `modules.dep`.
fn wanted_modules(listing: &str) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for line in listing.lines() {
        let Some((module, dependencies)) = line.split_once(':') else {
            continue;
        };
        let below = module.strip_prefix("kernel/").unwrap_or(module);
        if MODULES.iter().any(|start| below.starts_with(start)) {
            wanted.insert(module.to_owned());
            wanted.extend(dependencies.split_whitespace().map(str::to_owned));
        }
    }
    wanted
}

fn compress(archive: &[u8], image: &Path) -> Result<()> {
    let plain = image.with_extension("tmp");
    fs::write(&plain, archive)?;
    tools::run(
        Command::new("zstd")
            .args(["-q", "-3", "-T0", "-f", "--rm", "-o"])
            .arg(image)
            .arg(&plain),
    )
}

/// Copies `file` to the place `at` (absolute) under `root`, following links of
/// the file but never writing through a link of the host.
fn copy(root: &Path, file: &Path, at: &Path) -> Result<()> {
    let place = in_usr(at).with_context(|| format!("{} is not an absolute path", at.display()))?;
    let place = root.join(place);
    if place.exists() {
        return Ok(());
    }
    let Some(folder) = place.parent() else {
        bail!("{} has no folder", at.display())
    };
    fs::create_dir_all(folder)?;
    fs::copy(file, &place).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}

/// Where a path lies in the guest: `/lib`, `/lib64` and `/sbin` are links into `/usr`.
pub(crate) fn in_usr(path: &Path) -> Option<PathBuf> {
    let relative = path.strip_prefix("/").ok()?;
    let linked = ["lib", "lib64", "sbin"]
        .iter()
        .any(|name| relative.starts_with(name));
    Some(if linked {
        Path::new("usr").join(relative)
    } else {
        relative.to_owned()
    })
}

fn write(root: &Path, path: &str, content: &str) -> Result<()> {
    fs::write(root.join(path), content).with_context(|| format!("write {path}"))
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("make it executable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_bring_what_they_depend_on() {
        let listing = "kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko kernel/lib/libcrc32c.ko\n\
                       kernel/drivers/gpu/drm.ko: kernel/lib/other.ko\n";

        let wanted = wanted_modules(listing);

        assert_eq!(
            wanted.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "kernel/lib/libcrc32c.ko",
                "kernel/net/netfilter/ipvs/ip_vs.ko",
                "kernel/net/netfilter/nf_conntrack.ko"
            ]
        );
    }
}

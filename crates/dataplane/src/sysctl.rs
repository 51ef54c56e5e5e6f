//! The few sysctls that IPVS needs, each with its reason; nothing else is
//! written, and what was changed is told so that `cleanup` can restore it.
//!
//! Deliberately absent: `route_localnet` (opens 127.0.0.0/8 to the network),
//! `vs/conn_reuse_mode` (its default is right since Linux 5.9), and the
//! `sloppy_*` and `sync_*` ones.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What decides which sysctls are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// IPv6 is served.
    pub ipv6: bool,
    /// `--ipvs-strict-arp`: ARP is answered only for addresses of the link asked.
    pub strict_arp: bool,
    /// `--ipvs-run-estimation`: whether the kernel computes rates; none leaves it alone.
    pub run_estimation: Option<bool>,
}

/// A sysctl that should have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Below `/proc/sys`: `net/ipv4/ip_forward`.
    pub path: &'static str,
    /// As the kernel writes it.
    pub value: &'static str,
    /// Why, for the log.
    pub reason: &'static str,
}

/// A sysctl that was changed, with its value from before. Serializable, to be
/// kept beside the ownership record until `cleanup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Below `/proc/sys`.
    pub path: String,
    /// The value it had.
    pub old: String,
    /// The value it has now.
    pub new: String,
    /// Why.
    pub reason: String,
}

/// A sysctl that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} sysctl {path}{}: {source}; {}", wanted_value(.value), remedy(.path, .source))]
pub struct Failed {
    /// Below `/proc/sys`.
    pub path: String,
    /// `read` or `set`.
    pub action: &'static str,
    /// The value that was to be written; none when reading.
    pub value: Option<String>,
    /// The system's reason.
    pub source: io::Error,
}

/// What `ensure` and `restore` did.
#[derive(Debug, Default)]
pub struct Report {
    /// Written, because another value stood there.
    pub changed: Vec<Changed>,
    /// Left as they were, against our wish.
    pub failed: Vec<Failed>,
}

const ALWAYS: [Wanted; 4] = [
    Wanted {
        path: "net/ipv4/vs/conntrack",
        value: "1",
        reason: "masquerading and the guard need connection tracking of IPVS traffic",
    },
    Wanted {
        path: "net/ipv4/vs/expire_nodest_conn",
        value: "1",
        reason: "connections to a removed real server end at once",
    },
    Wanted {
        path: "net/ipv4/vs/expire_quiescent_template",
        value: "1",
        reason: "sticky clients leave a real server that drains",
    },
    Wanted {
        path: "net/ipv4/ip_forward",
        value: "1",
        reason: "IPv4 traffic is forwarded to real servers",
    },
];

const IPV6: Wanted = Wanted {
    path: "net/ipv6/conf/all/forwarding",
    value: "1",
    reason: "IPv6 traffic is forwarded to real servers",
};

const STRICT_ARP: [Wanted; 2] = [
    Wanted {
        path: "net/ipv4/conf/all/arp_ignore",
        value: "1",
        reason: "strict ARP: no answers for VIPs that are on the dummy link",
    },
    Wanted {
        path: "net/ipv4/conf/all/arp_announce",
        value: "2",
        reason: "strict ARP: no VIP as the sender of an ARP request",
    },
];

const RUN_ESTIMATION: &str = "net/ipv4/vs/run_estimation";

/// The table of sysctls.
pub struct Sysctls;

impl Sysctls {
    /// All that is wanted, in the order it is written.
    pub fn wanted(options: Options) -> Vec<Wanted> {
        let mut wanted = ALWAYS.to_vec();
        if options.ipv6 {
            wanted.push(IPV6);
        }
        if options.strict_arp {
            wanted.extend(STRICT_ARP);
        }
        if let Some(run) = options.run_estimation {
            wanted.push(Wanted {
                path: RUN_ESTIMATION,
                value: if run { "1" } else { "0" },
                reason: "--ipvs-run-estimation: whether rates of virtual servers are computed",
            });
        }
        wanted
    }
}

/// Gives each sysctl below `root` (`/proc/sys`) the value wanted. What has it
/// already is not written. A failure does not stop the others.
///
/// `net/ipv4/vs` is there once `ip_vs` is loaded, which asking the kernel for
/// IPVS does. Below `net/`, `/proc/sys` shows the network namespace of the
/// thread that opens the file.
pub fn ensure(root: &Path, wanted: &[Wanted]) -> Report {
    let mut report = Report::default();
    for Wanted {
        path,
        value,
        reason,
    } in wanted
    {
        match write(root, path, value, reason) {
            Ok(changed) => report.changed.extend(changed),
            Err(failed) => report.failed.push(failed),
        }
    }
    report
}

/// Gives one sysctl a value; says what was changed, if anything was.
///
/// # Errors
/// It cannot be read or set.
pub fn write(
    root: &Path,
    path: &str,
    value: &str,
    reason: &str,
) -> Result<Option<Changed>, Failed> {
    let old = set(root, path, value)?;
    Ok(old.map(|old| Changed {
        path: path.into(),
        old,
        new: value.into(),
        reason: reason.into(),
    }))
}

/// Gives back the values from before, last change first. A sysctl that
/// somebody has set to another value since is left alone, and one that is gone
/// with its module is no failure.
pub fn restore(root: &Path, changes: &[Changed]) -> Report {
    let mut report = would_restore(root, changes);
    for back in std::mem::take(&mut report.changed) {
        match write(root, &back.path, &back.new, &back.reason) {
            Ok(changed) => report.changed.extend(changed),
            Err(failed) => report.failed.push(failed),
        }
    }
    report
}

/// What [`restore`] would do, without doing it.
pub fn would_restore(root: &Path, changes: &[Changed]) -> Report {
    let mut report = Report::default();
    for change in changes.iter().rev() {
        match read(root, &change.path) {
            Ok(now) if now == change.new => report.changed.push(Changed {
                path: change.path.clone(),
                old: now,
                new: change.old.clone(),
                reason: "restored".into(),
            }),
            Ok(_) => {}
            Err(failed) if failed.source.kind() == io::ErrorKind::NotFound => {}
            Err(failed) => report.failed.push(failed),
        }
    }
    report
}

/// Writes a value unless it is there; gives the old one when it was not.
fn set(root: &Path, path: &str, value: &str) -> Result<Option<String>, Failed> {
    let old = read(root, path)?;
    if old == value {
        return Ok(None);
    }
    let failed = |source| Failed {
        path: path.into(),
        action: "set",
        value: Some(value.into()),
        source,
    };
    fs::write(root.join(path), value).map_err(failed)?;
    let now = read(root, path)?;
    if now != value {
        let source = io::Error::other(format!("written, but it reads {now}"));
        return Err(failed(source));
    }
    Ok(Some(old))
}

fn read(root: &Path, path: &str) -> Result<String, Failed> {
    match fs::read_to_string(root.join(path)) {
        Ok(text) => Ok(text.trim().into()),
        Err(source) => Err(Failed {
            path: path.into(),
            action: "read",
            value: None,
            source,
        }),
    }
}

fn wanted_value(value: &Option<String>) -> String {
    match value {
        Some(value) => format!(" to {value}"),
        None => String::new(),
    }
}

/// What helps.
fn remedy(path: &str, source: &io::Error) -> String {
    let name = path.replace('/', ".");
    match source.kind() {
        io::ErrorKind::NotFound if path == RUN_ESTIMATION => {
            "this kernel is older than 5.15 and always computes rates: do without \
             --ipvs-run-estimation"
                .into()
        }
        io::ErrorKind::NotFound if path.starts_with("net/ipv4/vs/") => {
            "load the kernel module ip_vs".into()
        }
        io::ErrorKind::NotFound if path.starts_with("net/ipv6/") => {
            "enable IPv6 in the kernel, or serve IPv4 only".into()
        }
        io::ErrorKind::NotFound => "is /proc mounted?".into(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => format!(
            "/proc/sys is read-only or protected here (AppArmor, unprivileged container): \
             run privileged, or set {name} on the host"
        ),
        _ => format!("set {name} on the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc_sys(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, value) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, format!("{value}\n")).expect("a file");
        }
        root
    }

    const FORWARD: Wanted = ALWAYS[3];

    #[test]
    fn a_plain_ipv4_node_wants_four() {
        let paths: Vec<_> = Sysctls::wanted(Options::default())
            .iter()
            .map(|wanted| (wanted.path, wanted.value))
            .collect();

        assert_eq!(
            paths,
            [
                ("net/ipv4/vs/conntrack", "1"),
                ("net/ipv4/vs/expire_nodest_conn", "1"),
                ("net/ipv4/vs/expire_quiescent_template", "1"),
                ("net/ipv4/ip_forward", "1"),
            ]
        );
    }

    #[test]
    fn ipv6_and_strict_arp_add_theirs_and_nothing_dangerous() {
        let all = Sysctls::wanted(Options {
            ipv6: true,
            strict_arp: true,
            run_estimation: None,
        });

        assert_eq!(all.len(), 7);
        assert!(all.iter().any(|w| w.path == "net/ipv6/conf/all/forwarding"));
        assert!(
            all.iter()
                .any(|w| w.path.ends_with("arp_announce") && w.value == "2")
        );
        assert!(!all.iter().any(|w| w.path.contains("route_localnet")));
        assert!(!all.iter().any(|w| w.path.contains("conn_reuse_mode")));
        assert!(!all.iter().any(|w| w.path.contains("run_estimation")));
    }

    #[test]
    fn estimation_is_run_or_not_as_the_operator_says_and_an_old_kernel_is_named() {
        for (run, value) in [(true, "1"), (false, "0")] {
            let all = Sysctls::wanted(Options {
                run_estimation: Some(run),
                ..Options::default()
            });
            let last = all.last().expect("one more");
            assert_eq!(
                (all.len(), last.path, last.value),
                (5, RUN_ESTIMATION, value)
            );

            let report = ensure(proc_sys(&[]).path(), &[*last]);
            let text = report.failed[0].to_string();
            assert!(text.contains("this kernel is older than 5.15"), "{text}");
        }
    }

    #[test]
    fn changes_what_differs_and_tells_the_old_value() {
        let root = proc_sys(&[("net/ipv4/ip_forward", "0")]);

        let report = ensure(root.path(), &[FORWARD]);

        assert!(report.failed.is_empty());
        assert_eq!(report.changed.len(), 1);
        assert_eq!(
            (&*report.changed[0].old, &*report.changed[0].new),
            ("0", "1")
        );
        let text = fs::read_to_string(root.path().join(FORWARD.path)).expect("the file");
        assert_eq!(text, "1");
    }

    #[test]
    fn what_is_right_is_not_written() {
        let root = proc_sys(&[("net/ipv4/ip_forward", "1")]);

        let report = ensure(root.path(), &[FORWARD]);

        assert!(report.changed.is_empty() && report.failed.is_empty());
        let text = fs::read_to_string(root.path().join(FORWARD.path)).expect("the file");
        assert_eq!(text, "1\n", "the newline shows that nobody wrote");
    }

    #[test]
    fn a_missing_file_names_path_and_remedy_and_the_rest_goes_on() {
        let root = proc_sys(&[("net/ipv4/ip_forward", "0")]);

        let report = ensure(root.path(), &Sysctls::wanted(Options::default()));

        assert_eq!(report.changed.len(), 1);
        assert_eq!(report.failed.len(), 3);
        let text = report.failed[0].to_string();
        assert!(
            text.starts_with("read sysctl net/ipv4/vs/conntrack: "),
            "{text}"
        );
        assert!(text.ends_with("; load the kernel module ip_vs"), "{text}");
    }

    #[test]
    fn a_write_that_fails_names_value_and_remedy() {
        let failed = Failed {
            path: "net/ipv4/ip_forward".into(),
            action: "set",
            value: Some("1".into()),
            source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        };

        let text = failed.to_string();

        assert!(
            text.starts_with("set sysctl net/ipv4/ip_forward to 1: "),
            "{text}"
        );
        assert!(
            text.contains("set net.ipv4.ip_forward on the host"),
            "{text}"
        );
    }

    #[test]
    fn restore_gives_the_old_value_back() {
        let root = proc_sys(&[("net/ipv4/ip_forward", "0")]);
        let changed = ensure(root.path(), &[FORWARD]).changed;
        let kept = serde_json::to_string(&changed).expect("JSON");

        let kept: Vec<Changed> = serde_json::from_str(&kept).expect("JSON");
        let report = restore(root.path(), &kept);

        assert_eq!(report.changed.len(), 1);
        let text = fs::read_to_string(root.path().join(FORWARD.path)).expect("the file");
        assert_eq!(text, "0");
    }

    #[test]
    fn restore_leaves_what_somebody_else_has_set() {
        let root = proc_sys(&[("net/ipv4/conf/all/arp_announce", "0")]);
        let changed = ensure(root.path(), &[STRICT_ARP[1]]).changed;
        fs::write(root.path().join(STRICT_ARP[1].path), "1").expect("the file");

        let report = restore(root.path(), &changed);

        assert!(report.changed.is_empty() && report.failed.is_empty());
        let text = fs::read_to_string(root.path().join(STRICT_ARP[1].path)).expect("the file");
        assert_eq!(text, "1");
    }
}

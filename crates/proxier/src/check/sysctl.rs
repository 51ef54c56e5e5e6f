//! The sysctls we set: right already, or writable.

use std::fs::OpenOptions;

use kube_ipvs_dataplane::sysctl::{Options, Sysctls, Wanted};

use super::finding::Finding;
use super::host::Host;

/// `runs`: a daemon, which has set them.
pub(super) fn check(host: &Host, runs: bool) -> Vec<Finding> {
    let wanted = Sysctls::wanted(Options {
        ipv6: true,
        ..Options::default()
    });
    let mut findings: Vec<Finding> = wanted
        .iter()
        .filter_map(|wanted| unwritable(host, wanted))
        .collect();
    if findings.is_empty() {
        let other = wanted.iter().filter_map(|wanted| other_value(host, wanted));
        findings.push(as_they_are(other.collect(), runs));
    }
    findings.extend(reuse_mode(host));
    findings
}

/// `net.ipv4.ip_forward is 0, to be 1`, where it is not what we set it to.
fn other_value(host: &Host, wanted: &Wanted) -> Option<String> {
    let now = host.read(&format!("/proc/sys/{}", wanted.path)).ok()?;
    let path = wanted.path.replace('/', ".");
    (now != wanted.value).then(|| format!("{path} is {now}, to be {}", wanted.value))
}

fn as_they_are(other: Vec<String>, runs: bool) -> Finding {
    let name = "sysctls";
    let others = other.join("; ");
    match (other.is_empty(), runs) {
        (true, _) => Finding::ok(name, "as they must be"),
        (false, false) => Finding::ok(name, format!("to be set at the start: {others}")),
        (false, true) => Finding::warn(
            name,
            format!("somebody else changed them: {others}"),
            "wait for --ipvs-sync-period: the running kube-ipvs sets them; if it does not, its \
             log says why",
        ),
    }
}

/// None too where the sysctl does not exist: no IPv6, or no IPVS (said elsewhere).
fn unwritable(host: &Host, wanted: &Wanted) -> Option<Finding> {
    let Wanted {
        path,
        value,
        reason,
    } = wanted;
    let file = format!("/proc/sys/{path}");
    let now = host.read(&file).ok()?;
    if now == *value {
        return None;
    }
    // Opening tells a read-only mount, a missing right and AppArmor without a write.
    let error = OpenOptions::new()
        .write(true)
        .open(host.path(&file))
        .err()?;
    Some(Finding::fail(
        &format!("sysctl {}", path.replace('/', ".")),
        format!("is {now}, must be {value} ({reason}), cannot be written: {error}"),
        "run `kube-ipvs run --init-only` once in a privileged init container, \
         or set it on the node",
    ))
}

/// 0 keeps clients that re-use a port with a real server that is gone.
pub(super) fn reuse_mode(host: &Host) -> Option<Finding> {
    let value = host.read("/proc/sys/net/ipv4/vs/conn_reuse_mode").ok()?;
    (value == "0").then(|| {
        Finding::warn(
            "sysctl net.ipv4.vs.conn_reuse_mode",
            "is 0: a client that re-uses its source port keeps a real server that is gone",
            "set it to 1 (the kernel's default); kube-proxy of old set it to 0",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

    #[test]
    fn what_is_set_or_writable_is_one_line() {
        let made = host(&[(FORWARD, "0\n"), ("/proc/sys/net/ipv4/vs/conntrack", "1\n")]);

        let to_be_set = "to be set at the start: net.ipv4.ip_forward is 0, to be 1";
        assert_eq!(
            check(&made.host, false),
            [Finding::ok("sysctls", to_be_set)]
        );
        let [changed] = &check(&made.host, true)[..] else {
            panic!("one finding");
        };
        assert_eq!(changed.verdict, Verdict::Warn);
        assert!(
            changed.detail.ends_with("ip_forward is 0, to be 1"),
            "{changed:?}"
        );
        made.write(FORWARD, "1\n");
        assert_eq!(
            check(&made.host, true),
            [Finding::ok("sysctls", "as they must be")]
        );
        made.write(FORWARD, "0\n");
        assert_eq!(made.host.read(FORWARD).expect("a file"), "0");
    }

    #[test]
    fn what_cannot_be_written_fails_with_its_name() {
        let made = host(&[]);
        let path = made.host.path(FORWARD);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        // A file of the kernel's that not even root may open for writing.
        std::os::unix::fs::symlink("/proc/sys/kernel/ngroups_max", &path).expect("a link");

        let [finding] = &check(&made.host, false)[..] else {
            panic!("one finding");
        };

        assert_eq!(finding.verdict, Verdict::Fail);
        assert_eq!(finding.name, "sysctl net.ipv4.ip_forward");
        assert!(
            finding
                .detail
                .starts_with("is 65536, must be 1 (IPv4 traffic is forwarded"),
            "{finding:?}"
        );
        assert!(finding.remedy.contains("--init-only"));
    }

    #[test]
    fn a_reuse_mode_of_zero_is_warned_of() {
        let made = host(&[("/proc/sys/net/ipv4/vs/conn_reuse_mode", "0\n")]);

        let names: Vec<_> = check(&made.host, false)
            .into_iter()
            .map(|f| f.name)
            .collect();

        assert_eq!(names, ["sysctls", "sysctl net.ipv4.vs.conn_reuse_mode"]);
    }
}

//! The kernel's version, and what older ones get wrong.

use super::finding::Finding;
use super::host::Host;

const NAME: &str = "kernel";

pub(super) fn check(host: &Host) -> Finding {
    match host.read("/proc/sys/kernel/osrelease") {
        Ok(release) => judge(&release),
        Err(error) => Finding::warn(NAME, format!("read its release: {error}"), "mount /proc"),
    }
}

fn judge(release: &str) -> Finding {
    let Some(version) = parse(release) else {
        return Finding::warn(
            NAME,
            format!("{release}: not a version"),
            "Linux 5.9 or newer is needed",
        );
    };
    if version < (5, 6) {
        return Finding::fail(
            NAME,
            format!("{release}: nftables has no intervals in concatenations before 5.6"),
            "use Linux 5.9 or newer",
        );
    }
    if version < (5, 9) {
        return Finding::warn(
            NAME,
            format!(
                "{release}: before 5.9 a client that re-uses a source port waits a second \
                 for its connection, or hits a real server that is gone"
            ),
            "use Linux 5.9 or newer",
        );
    }
    Finding::ok(NAME, release)
}

/// `6.1.0-13-amd64` is (6, 1).
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict::{self, Fail, Ok, Warn};

    #[test]
    fn versions_are_judged_by_what_they_lack() {
        let verdict = |release: &str| -> Verdict { judge(release).verdict };

        assert_eq!(verdict("6.1.0-13-amd64"), Ok);
        assert_eq!(verdict("5.10"), Ok);
        assert_eq!(verdict("5.9.0"), Ok);
        assert_eq!(verdict("5.8.18"), Warn);
        assert_eq!(verdict("5.4.0-150-generic"), Fail);
        assert_eq!(verdict("4.19.0"), Fail);
        assert_eq!(verdict("strange"), Warn);
    }
}

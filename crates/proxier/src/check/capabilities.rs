//! What this process may do.

use super::finding::Finding;
use super::host::Host;

const NAME: &str = "capability NET_ADMIN";
/// Number of CAP_NET_ADMIN in the kernel's masks.
const NET_ADMIN: u32 = 12;

pub(super) fn check(host: &Host) -> Finding {
    let status = host.read("/proc/self/status").unwrap_or_default();
    match effective(&status) {
        None => Finding::warn(NAME, "no CapEff in /proc/self/status", "mount /proc"),
        Some(mask) if mask & (1 << NET_ADMIN) != 0 => Finding::ok(NAME, "granted"),
        Some(mask) => Finding::fail(
            NAME,
            format!("not granted (CapEff {mask:016x})"),
            "run as root, or add NET_ADMIN to securityContext.capabilities",
        ),
    }
}

/// The mask in `CapEff:`.
fn effective(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    fn verdict(mask: &str) -> Verdict {
        let status = format!("Name:\tkube-ipvs\nCapPrm:\t0\nCapEff:\t{mask}\n");
        check(&host(&[("/proc/self/status", &status)]).host).verdict
    }

    #[test]
    fn net_admin_alone_is_enough() {
        assert_eq!(verdict("0000000000001000"), Verdict::Ok);
        assert_eq!(verdict("000001ffffffffff"), Verdict::Ok);
    }

    #[test]
    fn all_but_net_admin_is_not() {
        assert_eq!(verdict("000001ffffffefff"), Verdict::Fail);
        assert_eq!(verdict("0000000000000000"), Verdict::Fail);
    }

    #[test]
    fn a_mask_that_cannot_be_read_is_said() {
        assert_eq!(verdict("xyz"), Verdict::Warn);
    }
}

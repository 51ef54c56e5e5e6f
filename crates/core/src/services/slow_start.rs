//! How long a new endpoint takes to get its whole share.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// Annotation of a Service.
pub(super) const SLOW_START: &str = "ipvs.kube-ipvs.dev/slow-start";

/// Schedulers that share connections out by weight. Of the others that weigh,
/// each step would move clients of `mh` to other endpoints, `fo` would give a
/// new endpoint nothing until it has the whole, and `ovf` counts connections.
const SHARING: [&str; 7] = ["wrr", "wlc", "sed", "nq", "lblc", "lblcr", "twos"];

const SHORTEST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 3_600_000;

/// Whether the weights of a scheduler can climb.
pub(super) fn is_shared_by(scheduler: &str) -> bool {
    SHARING.contains(&scheduler)
}

/// What to say to a scheduler whose weights cannot.
pub(super) fn not_shared(scheduler: &str) -> String {
    let sharing = SHARING.join(", ");
    format!(
        "is not for scheduler {scheduler}; new endpoints get their share at once ({sharing} do it)"
    )
}

/// A time as Go and Gateway API write it: `30s`, `1m30s`. Milliseconds; or what
/// is wrong with it.
pub(super) fn read(text: &str) -> Result<u64, String> {
    let no_time = || "is no time such as 30s or 1m30s; it is ignored".to_owned();
    let milliseconds = milliseconds(text).ok_or_else(no_time)?;
    if (SHORTEST_MS..=LONGEST_MS).contains(&milliseconds) {
        return Ok(milliseconds);
    }
    Err("is not from 1s to 1h; it is ignored".to_owned())
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let length = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(length.unwrap_or(after.len()));
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them_and_have_bounds() {
        for (text, milliseconds) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1500ms", Some(1_500)),
            ("1h", Some(3_600_000)),
            ("1s", Some(1_000)),
            ("999ms", None),
            ("1h1ms", None),
            ("0s", None),
            ("", None),
            ("30", None),
            ("s", None),
            ("-30s", None),
            ("1.5m", None),
            ("30 s", None),
            ("30sec", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("5124095576030431h5124095576030431h", None),
        ] {
            assert_eq!(read(text).ok(), milliseconds, "{text}");
        }
    }
}

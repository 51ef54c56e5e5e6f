//! Traffic policies and session affinity, as they are written.

use alloc::format;

use crate::k8s::ServiceSpec;
use crate::read::Quoted;
use crate::warnings::Warnings;

/// Reads a traffic policy; anything but `Local` is `Cluster`.
pub(super) fn is_local(field: &str, value: Option<&str>, warnings: &mut Warnings) -> bool {
    match value {
        Some("Local") => true,
        None | Some("" | "Cluster") => false,
        Some(other) => {
            warnings.add(format!(
                "{field} {} is unknown; Cluster is used",
                Quoted(other)
            ));
            false
        }
    }
}

/// Session affinity: its time-out in seconds.
pub(super) fn affinity(spec: &ServiceSpec, warnings: &mut Warnings) -> Option<u32> {
    const DEFAULT: u32 = 10_800;
    const LONGEST: u32 = 86_400;
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            warnings.add(format!(
                "sessionAffinity {} is unknown; None is used",
                Quoted(other)
            ));
            return None;
        }
    }
    let Some(seconds) = spec.session_affinity_config.client_ip.timeout_seconds else {
        return Some(DEFAULT);
    };
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=LONGEST) => Some(seconds),
        _ => {
            warnings.add(format!(
                "sessionAffinityConfig.clientIP.timeoutSeconds {seconds} is not within 1 and \
                 {LONGEST}; {DEFAULT} is used"
            ));
            Some(DEFAULT)
        }
    }
}

//! Firewall marks for traffic from inside.

use super::ports::Port;
use crate::names::ServiceName;
use crate::options::Options;
use crate::state::Family;

/// Bits that stay zero: 14 and 15 are kube-proxy's, 30 and 31 are left to others.
const FREE: u32 = 0x3fff_ffff & !(1 << 14) & !(1 << 15);

/// The mark of a Service port: a hash, so that it is the same after every
/// restart without being written down. Never 0.
pub(super) fn mark(name: &ServiceName, port: &Port, family: Family, options: &Options) -> u32 {
    let family = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let hash = crate::seed(&format!(
        "{name}:{}/{} {family}",
        port.number, port.protocol
    ));
    let bits = FREE & !1u32.wrapping_shl(options.masquerade_bit.into());
    let folded = (hash ^ (hash >> 32)) as u32 & bits;
    match folded {
        // The lowest bit that may be set.
        0 => bits & bits.wrapping_neg(),
        mark => mark,
    }
}

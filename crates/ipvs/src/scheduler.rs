//! Schedulers, by the kernel's names.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// The scheduler of a service: a name the kernel resolves, loading module
/// `ip_vs_NAME` when it must. Names unknown to this crate are as good.
///
/// ```
/// use ipvs_netlink::Scheduler;
///
/// assert_eq!(Scheduler::from("wlc"), Scheduler::WLC);
/// assert_eq!(Scheduler::from("of-tomorrow").as_str(), "of-tomorrow");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheduler(Cow<'static, str>);

impl Scheduler {
    /// Round robin.
    pub const RR: Self = Self::known("rr");
    /// Weighted round robin.
    pub const WRR: Self = Self::known("wrr");
    /// Least connections.
    pub const LC: Self = Self::known("lc");
    /// Weighted least connections.
    pub const WLC: Self = Self::known("wlc");
    /// Weighted fail-over.
    pub const FO: Self = Self::known("fo");
    /// Weighted overflow.
    pub const OVF: Self = Self::known("ovf");
    /// Locality-based least connections.
    pub const LBLC: Self = Self::known("lblc");
    /// Locality-based least connections with replication.
    pub const LBLCR: Self = Self::known("lblcr");
    /// Destination hashing.
    pub const DH: Self = Self::known("dh");
    /// Source hashing.
    pub const SH: Self = Self::known("sh");
    /// Maglev hashing (kernel 4.18).
    pub const MH: Self = Self::known("mh");
    /// Shortest expected delay.
    pub const SED: Self = Self::known("sed");
    /// Never queue.
    pub const NQ: Self = Self::known("nq");
    /// Random choice of two (kernel 5.12).
    pub const TWOS: Self = Self::known("twos");
    /// No scheduler: only connections that are there are served.
    pub const NONE: Self = Self::known(Self::NONE_NAME);
    pub(crate) const NONE_NAME: &'static str = "none";

    const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The kernel's name for it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Those that have a name here.
static KNOWN: [Scheduler; 15] = [
    Scheduler::RR,
    Scheduler::WRR,
    Scheduler::LC,
    Scheduler::WLC,
    Scheduler::FO,
    Scheduler::OVF,
    Scheduler::LBLC,
    Scheduler::LBLCR,
    Scheduler::DH,
    Scheduler::SH,
    Scheduler::MH,
    Scheduler::SED,
    Scheduler::NQ,
    Scheduler::TWOS,
    Scheduler::NONE,
];

impl From<&str> for Scheduler {
    /// Known names, as nearly all are, take no memory of their own.
    fn from(name: &str) -> Self {
        let known = KNOWN.iter().find(|known| known.as_str() == name);
        let other = || Self(Cow::Owned(name.to_owned()));
        known.cloned().unwrap_or_else(other)
    }
}

impl From<String> for Scheduler {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl FromStr for Scheduler {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.into())
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

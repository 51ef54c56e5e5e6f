//! Flags of a service.

use crate::Scheduler;
use crate::constants::*;

bitflags::bitflags! {
    /// Flags of a service. Bits unknown to this crate are kept.
    ///
    /// What the three scheduler flags mean is up to the scheduler.
    ///
    /// ```
    /// use ipvs_netlink::{Scheduler, ServiceFlags};
    ///
    /// let flags = ServiceFlags::PERSISTENT | ServiceFlags::MH_PORT;
    /// assert_eq!(flags.scheduler_flag_names(&Scheduler::MH), ["mh-port"]);
    /// assert_eq!(flags.scheduler_flag_names(&Scheduler::RR), ["flag-2"]);
    /// ```
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct ServiceFlags: u32 {
        /// A client stays with its destination (`ipvsadm -p`).
        const PERSISTENT = IP_VS_SVC_F_PERSISTENT;
        /// Stands in the kernel's table. Only ever reported, never sent.
        const HASHED = IP_VS_SVC_F_HASHED;
        /// Every packet is scheduled by itself, UDP only (`ipvsadm -o`).
        const ONE_PACKET = IP_VS_SVC_F_ONEPACKET;
        /// First flag of the scheduler (`ipvsadm -b flag-1`).
        const SCHED1 = IP_VS_SVC_F_SCHED1;
        /// Second flag of the scheduler.
        const SCHED2 = IP_VS_SVC_F_SCHED2;
        /// Third flag of the scheduler.
        const SCHED3 = IP_VS_SVC_F_SCHED3;
        /// `sh`: take another destination when the hashed one is out.
        const SH_FALLBACK = IP_VS_SVC_F_SCHED1;
        /// `sh`: hash the source port too.
        const SH_PORT = IP_VS_SVC_F_SCHED2;
        /// `mh`: take another destination when the hashed one is out.
        const MH_FALLBACK = IP_VS_SVC_F_SCHED1;
        /// `mh`: hash the source port too.
        const MH_PORT = IP_VS_SVC_F_SCHED2;

        const _ = !0;
    }
}

impl ServiceFlags {
    /// The three flags that belong to the scheduler.
    pub const SCHEDULER: Self = Self::SCHED1.union(Self::SCHED2).union(Self::SCHED3);

    /// Names of the scheduler flags that are set, as `ipvsadm` says them:
    /// `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`, `flag-1` to `flag-3`.
    pub fn scheduler_flag_names(self, scheduler: &Scheduler) -> Vec<&'static str> {
        scheduler_flags(scheduler)
            .into_iter()
            .filter(|(_, flag)| self.contains(*flag))
            .map(|(name, _)| name)
            .collect()
    }

    /// The flag that `ipvsadm -b` knows by this name, if `scheduler` has it.
    /// `flag-1` to `flag-3` go with every scheduler.
    pub fn from_scheduler_flag_name(name: &str, scheduler: &Scheduler) -> Option<Self> {
        scheduler_flags(scheduler)
            .into_iter()
            .chain(GENERIC)
            .find(|(known, _)| *known == name)
            .map(|(_, flag)| flag)
    }
}

const GENERIC: [(&str, ServiceFlags); 3] = [
    ("flag-1", ServiceFlags::SCHED1),
    ("flag-2", ServiceFlags::SCHED2),
    ("flag-3", ServiceFlags::SCHED3),
];

fn scheduler_flags(scheduler: &Scheduler) -> [(&'static str, ServiceFlags); 3] {
    let mut names = GENERIC;
    match scheduler.as_str() {
        "sh" => (names[0].0, names[1].0) = ("sh-fallback", "sh-port"),
        "mh" => (names[0].0, names[1].0) = ("mh-fallback", "mh-port"),
        _ => {}
    }
    names
}

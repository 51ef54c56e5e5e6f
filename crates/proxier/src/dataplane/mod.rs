//! Carries plans out on a Linux kernel: IPVS, VIPs, nftables, connection
//! tracking, sysctls.

pub mod conntrack;
pub mod sysctl;

//! The nftables table against a real kernel: content, changes, verdicts, marks,
//! chains of others. IPVS is not needed: a plain listener stands in for it.

mod content;
mod foreign;
mod host_ports;
mod lab;
mod listing;
mod marks;
mod verdicts;

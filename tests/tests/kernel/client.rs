//! The netlink client against the kernel and the real `ipvsadm`, both ways: we
//! write and it reads, it writes and we read.

mod batches;
mod destinations;
mod services;
mod whole;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipvs_netlink::{Client, DestinationId, Service, ServiceFlags, ServiceId};
use kube_ipvs_tests::{run, run_with_input};

fn client() -> Client {
    Client::open().expect("IPVS is there")
}

/// `ipvsadm -Sn`, line by line.
fn saved() -> Vec<String> {
    let text = run("ipvsadm", ["-Sn"]);
    text.lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// `ipvsadm -R`.
fn restore(rules: &str) {
    run_with_input("ipvsadm", ["-R"], &format!("{rules}\n"));
}

fn web() -> ServiceId {
    ServiceId::tcp(Ipv4Addr::new(10, 96, 0, 10), 80)
}

fn web6() -> ServiceId {
    ServiceId::tcp(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa), 80)
}

fn endpoint(last: u8, port: u16) -> DestinationId {
    DestinationId::new(Ipv4Addr::new(10, 244, 1, last), port)
}

fn endpoint6(last: u16, port: u16) -> DestinationId {
    DestinationId::new(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last), port)
}

/// A service as the kernel reports it: the same, hashed.
fn reported(mut service: Service) -> Service {
    service.flags |= ServiceFlags::HASHED;
    service
}

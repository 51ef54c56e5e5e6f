//! What VIPs cost, bound as addresses and as routes, and what a program that
//! lists this host's addresses pays for them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube_ipvs_tests::{Namespace, command};
use kube_ipvs_vip::{Binder, Binding};

const LINK: &str = "kube-ipvs0";
const VIPS: u32 = 10_000;
/// The node's address, and the source of routes.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Binding as routes against binding as addresses.
const WORST: f64 = 1.0;

/// Guest milliseconds of one way.
struct Cost {
    bind: f64,
    one_more: f64,
    read: f64,
    unbind: f64,
    /// `ip -o address`, and the lines that it prints.
    list: f64,
    lines: usize,
}

pub(crate) fn run() -> Result<bool> {
    let addresses = measure(Binding::Address)?;
    let routes = measure(Binding::Route {
        source_v4: Some(NODE),
        source_v6: None,
    })?;
    for (name, cost) in [("addresses", &addresses), ("routes", &routes)] {
        println!(
            "binding: {VIPS} VIPs as {name}: bind {:.0} ms, one more {:.2} ms, read {:.0} ms, \
             unbind {:.0} ms, `ip -o address` {:.0} ms for {} lines",
            cost.bind, cost.one_more, cost.read, cost.unbind, cost.list, cost.lines
        );
    }
    Ok(routes.bind / addresses.bind <= WORST)
}

fn measure(binding: Binding) -> Result<Cost> {
    let namespace = Namespace::child("binding");
    let _inside = namespace.inside();
    namespace.ip(&format!(
        "link add eth0 type dummy\nlink set eth0 up\naddress add {NODE}/24 dev eth0\n"
    ));
    let mut binder = Binder::new(LINK, binding)?;
    binder.ensure_link()?;
    let vips: Vec<IpAddr> = (0..VIPS).map(vip).collect();

    let (bind, refused) = timed(|| binder.bind(&vips))?;
    ensure!(refused.is_empty(), "{} were refused", refused.len());
    let (one_more, _) = timed(|| binder.bind(&[vip(VIPS)]))?;
    let (read, bound) = timed(|| binder.bound())?;
    ensure!(bound.len() == vips.len() + 1, "{} are bound", bound.len());
    let (list, text) = timed(|| kube_ipvs_vip::Result::Ok(command::run("ip", ["-o", "address"])))?;
    let (unbind, refused) = timed(|| binder.unbind(&vips))?;
    ensure!(refused.is_empty(), "{} were refused", refused.len());
    Ok(Cost {
        bind,
        one_more,
        read,
        unbind,
        list,
        lines: text.lines().count(),
    })
}

fn vip(number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number).into()
}

/// In milliseconds of guest time, beside what came of it.
fn timed<T>(work: impl FnOnce() -> kube_ipvs_vip::Result<T>) -> Result<(f64, T)> {
    let started = Instant::now();
    let value = work()?;
    let took: Duration = started.elapsed();
    Ok((took.as_secs_f64() * 1e3, value))
}

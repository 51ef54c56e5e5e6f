//! Bridges that carry pods: without br_netfilter, a pod that reaches another
//! one on its bridge through a VIP gets the answer straight over the bridge,
//! with the pod's address instead of the VIP, and resets the connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube_ipvs_core::state::Family;

use super::finding::Finding;
use super::host::Host;

const NAME: &str = "bridges";
const REMEDY: &str = "modprobe br_netfilter, and set net.bridge.bridge-nf-call-iptables \
                      and net.bridge.bridge-nf-call-ip6tables to 1";
/// Of a route that leads to a gateway: what it leads to is on no link of ours
/// (linux/route.h).
const RTF_GATEWAY: u32 = 2;

pub(super) fn check(host: &Host) -> Finding {
    let bridges = with_ports(host);
    if bridges.is_empty() {
        return Finding::ok(NAME, "none with ports");
    }
    let all = bridges.join(", ");
    let off = unfiltered(host, &bridges).into_iter();
    let off: BTreeSet<&str> = off.map(|(family, _)| switch(family)).collect();
    if off.is_empty() {
        return Finding::ok(NAME, format!("{all}, filtered"));
    }
    let off: Vec<&str> = off.into_iter().collect();
    Finding::warn(
        NAME,
        format!(
            "{all}: {} is not 1; pods on one bridge cannot reach each other through a VIP",
            off.join(", ")
        ),
        REMEDY,
    )
}

/// Why pods of this node do not reach each other through a VIP, if that is so;
/// `pods` are asked for only where a bridge is not filtered.
pub(super) fn cut_off(host: &Host, pods: impl FnOnce() -> BTreeSet<IpAddr>) -> Option<String> {
    let everywhere = |family: &Family| is_on(host, &format!("{SWITCHES}/{}", switch(*family)));
    if FAMILIES.iter().all(everywhere) {
        return None;
    }
    let open = unfiltered(host, &with_ports(host));
    if open.is_empty() {
        return None;
    }
    let routes = routes(host);
    let of_open = |link: &String| open.iter().any(|(_, bridge)| bridge == link);
    let near: Vec<IpNet> = routes
        .iter()
        .filter(|(link, _)| of_open(link))
        .map(|(_, network)| *network)
        .collect();
    let behind = |pod: &IpAddr| {
        // Most are on no such bridge, and all routes are many.
        if !near.iter().any(|network| network.contains(pod)) {
            return None;
        }
        let to = routes.iter().filter(|(_, network)| network.contains(pod));
        let (link, _) = to.max_by_key(|(_, network)| network.prefix_len())?;
        let is_it =
            |(family, bridge): &&(Family, String)| *family == Family::of(*pod) && bridge == link;
        open.iter().find(is_it)
    };
    pods().iter().find_map(|pod| {
        let (family, bridge) = behind(pod)?;
        Some(format!(
            "pods on bridge {bridge} cannot reach each other through a VIP, {pod} is one: \
             net.bridge.{} is not 1; {REMEDY}",
            switch(*family)
        ))
    })
}

/// Bridges that are not filtered, and for which family.
fn unfiltered(host: &Host, bridges: &[String]) -> Vec<(Family, String)> {
    let mut open = Vec::new();
    for bridge in bridges {
        let of = FAMILIES
            .iter()
            .filter(|family| !is_filtered(host, bridge, **family));
        open.extend(of.map(|family| (*family, bridge.clone())));
    }
    open
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const SWITCHES: &str = "/proc/sys/net/bridge";

fn switch(family: Family) -> &'static str {
    match family {
        Family::V4 => "bridge-nf-call-iptables",
        Family::V6 => "bridge-nf-call-ip6tables",
    }
}

fn with_ports(host: &Host) -> Vec<String> {
    let ports = |link: &String| host.names(&format!("/sys/class/net/{link}/brif"));
    let mut links = host.names("/sys/class/net");
    links.retain(|link| !ports(link).is_empty());
    links
}

/// By the switch of all bridges, or by its own; that one is there without
/// br_netfilter too, and does nothing then.
fn is_filtered(host: &Host, bridge: &str, family: Family) -> bool {
    let all = format!("{SWITCHES}/{}", switch(family));
    let own = match family {
        Family::V4 => "nf_call_iptables",
        Family::V6 => "nf_call_ip6tables",
    };
    let own = format!("/sys/class/net/{bridge}/bridge/{own}");
    is_on(host, &all) || host.number(&all).is_some() && is_on(host, &own)
}

fn is_on(host: &Host, switch: &str) -> bool {
    host.number(switch) == Some(1)
}

/// Links and the networks on them, without what is behind gateways.
fn routes(host: &Host) -> Vec<(String, IpNet)> {
    let v4 = host.read("/proc/thread-self/net/route").unwrap_or_default();
    let v6 = host
        .read("/proc/thread-self/net/ipv6_route")
        .unwrap_or_default();
    let v4 = v4.lines().filter_map(route_v4);
    v4.chain(v6.lines().filter_map(route_v6)).collect()
}

/// `cbr0 0007F40A 00000000 0001 0 0 0 00FFFFFF 0 0 0`: addresses as the kernel
/// keeps them, the first byte last.
fn route_v4(line: &str) -> Option<(String, IpNet)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [link, to, _, flags, _, _, _, mask, ..] = fields[..] else {
        return None;
    };
    let address = |text| {
        let bits = u32::from_str_radix(text, 16).ok()?;
        Some(Ipv4Addr::from(bits.swap_bytes()))
    };
    let network = Ipv4Net::with_netmask(address(to)?, address(mask)?).ok()?;
    is_direct(flags)?;
    (network.prefix_len() > 0).then(|| (link.to_owned(), network.into()))
}

/// `fd00...00 40 0...0 00 0...0 00000100 00000001 00000000 00000001 cbr0`.
fn route_v6(line: &str) -> Option<(String, IpNet)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [to, length, _, _, _, _, _, _, flags, link] = fields[..] else {
        return None;
    };
    let address = Ipv6Addr::from(u128::from_str_radix(to, 16).ok()?);
    let network = Ipv6Net::new(address, u8::from_str_radix(length, 16).ok()?).ok()?;
    is_direct(flags)?;
    (network.prefix_len() > 0).then(|| (link.to_owned(), network.into()))
}

fn is_direct(flags: &str) -> Option<()> {
    let flags = u32::from_str_radix(flags, 16).ok()?;
    (flags & RTF_GATEWAY == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    const PORT: (&str, &str) = ("/sys/class/net/cni0/brif/veth1/state", "3");
    const ROUTES: (&str, &str) = (
        "/proc/thread-self/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         cni0\t00000000\t0132A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         cni0\t0009F40A\t0132A8C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
         cni0\t0007F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
         veth9\t0907F40A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n",
    );
    const ROUTES_V6: (&str, &str) = (
        "/proc/thread-self/net/ipv6_route",
        "fd000244000000070000000000000000 40 00000000000000000000000000000000 00 \
         00000000000000000000000000000000 00000100 00000001 00000000 00000001     cni0\n",
    );

    fn why(files: &[(&str, &str)], pods: &[&str]) -> Option<String> {
        let made = host(&[files, &[ROUTES, ROUTES_V6]].concat());
        let pods = pods.iter().map(|pod| pod.parse().expect("an address"));
        cut_off(&made.host, || pods.collect())
    }

    #[test]
    fn a_bridge_with_ports_needs_br_netfilter() {
        let made = host(&[PORT]);

        let finding = check(&made.host);

        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.detail.starts_with("cni0: "), "{finding:?}");
    }

    #[test]
    fn a_bridge_that_is_filtered_is_fine() {
        let made = host(&[
            PORT,
            ("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
            ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1\n"),
        ]);

        assert_eq!(check(&made.host).verdict, Verdict::Ok);
    }

    #[test]
    fn a_bridge_without_ports_carries_nobody() {
        let made = host(&[("/sys/class/net/docker0/mtu", "1500")]);

        assert_eq!(check(&made.host).verdict, Verdict::Ok);
    }

    #[test]
    fn pods_on_a_bridge_that_is_not_filtered_are_cut_off() {
        let reason = why(&[PORT], &["10.244.7.3"]).expect("a reason");
        assert!(reason.contains("bridge cni0"), "{reason}");
        assert!(reason.contains("10.244.7.3"), "{reason}");
        assert!(reason.contains("modprobe br_netfilter"), "{reason}");

        let v6 = why(&[PORT], &["fd00:244:0:7::3"]).expect("a reason");
        assert!(v6.contains("bridge-nf-call-ip6tables"), "{v6}");
    }

    #[test]
    fn who_is_elsewhere_is_not() {
        assert_eq!(why(&[PORT], &[]), None);
        // Behind the default gateway, behind another one, on a link of its own.
        let elsewhere = ["192.0.2.1", "10.244.9.3", "10.244.7.9", "2001:db8::1"];
        assert_eq!(why(&[PORT], &elsewhere), None);
        assert_eq!(why(&[], &["10.244.7.3"]), None, "no bridge");
    }

    #[test]
    fn a_bridge_is_filtered_by_the_switch_of_all_or_by_its_own_with_br_netfilter() {
        const V4: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        const OWN: (&str, &str) = ("/sys/class/net/cni0/bridge/nf_call_iptables", "1\n");
        let pods = ["10.244.7.3"];

        assert_eq!(why(&[PORT, (V4, "1\n")], &pods), None);
        assert_eq!(why(&[PORT, (V4, "0\n"), OWN], &pods), None);
        assert!(why(&[PORT, (V4, "0\n")], &pods).is_some());
        assert!(why(&[PORT, OWN], &pods).is_some(), "no br_netfilter");
        // Of one family alone.
        let both = ["10.244.7.3", "fd00:244:0:7::3"];
        let v6 = why(&[PORT, (V4, "1\n")], &both).expect("a reason");
        assert!(v6.contains("fd00:244:0:7::3"), "{v6}");
    }
}

//! Bridges that carry pods: without br_netfilter, a pod that reaches another
//! one on its bridge through a VIP gets the answer straight over the bridge,
//! with the pod's address instead of the VIP, and resets the connection.

use super::finding::Finding;
use super::host::Host;

const NAME: &str = "bridges";
const SWITCHES: [&str; 2] = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];

pub(super) fn check(host: &Host) -> Finding {
    let bridges: Vec<String> = host
        .names("/sys/class/net")
        .into_iter()
        .filter(|link| {
            !host
                .names(&format!("/sys/class/net/{link}/brif"))
                .is_empty()
        })
        .collect();
    if bridges.is_empty() {
        return Finding::ok(NAME, "none with ports");
    }
    let bridges = bridges.join(", ");
    let off: Vec<&str> = SWITCHES
        .into_iter()
        .filter(|switch| host.number(&format!("/proc/sys/net/bridge/{switch}")) != Some(1))
        .collect();
    match off.is_empty() {
        true => Finding::ok(NAME, format!("{bridges}, filtered")),
        false => Finding::warn(
            NAME,
            format!(
                "{bridges}: {} is not 1; pods on one bridge cannot reach each other through a VIP",
                off.join(", ")
            ),
            "modprobe br_netfilter, and set net.bridge.bridge-nf-call-iptables \
             and net.bridge.bridge-nf-call-ip6tables to 1",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    const PORT: (&str, &str) = ("/sys/class/net/cni0/brif/veth1/state", "3");

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
}

//! `kube-ipvs explain` beside what the kernel was given, and what clients meet.

use kube_ipvs_tests::{Client, Protocol, Verdict, kube_ipvs, output_of};

use crate::cleanup::Lab;

/// A `Local` Service with one endpoint here and one elsewhere, and one without.
/// All that could be changed; a new link's own address stops being tentative by
/// itself.
const STATE: &str = "ipvsadm -Sn; nft list ruleset; ip address | sed 's/ tentative//'";

#[test]
fn a_virtual_server_is_told_with_all_its_layers() {
    let lab = Lab::new();
    let _daemon = lab.daemon(&[]);
    let explain = |target: &str| output_of(&mut kube_ipvs(lab.node(), ["explain", target]));
    let before = lab.node().sh(STATE);
    let here = format!("-> {}:8080 weight 1", lab.small.pods[0].v4);

    let balanced = explain("10.96.77.1:80");
    for line in [
        "10.96.77.1:80/TCP  default/web:http\n",
        "  from outside  served by 1 real server, for 10.0.0.0/8, 192.168.0.0/16 only; others are dropped\n",
        "  from pods     served by 2 real servers of FWM ",
        "  from host     served by 2 real servers of FWM ",
        "  open to       10.0.0.0/8, 192.168.0.0/16\n",
        "  address       VIP, bound as an address\n",
        "  IPVS          10.96.77.1:80/TCP rr, ours\n",
        "-> 10.244.99.9:8080 weight 1",
        &here,
    ] {
        assert!(balanced.contains(line), "{line:?} in\n{balanced}");
    }

    let service = explain("web");
    let node_port = format!("{}:30080/TCP  default/web:http\n", lab.small.node.v4());
    for front in [
        "10.96.0.10:80/TCP",
        "[fd00:96::10]:80/TCP",
        "10.96.77.1:80/TCP",
        &node_port,
    ] {
        assert!(service.contains(front), "{front} in\n{service}");
    }

    let client = Client::within(&lab.small.outside.namespace);
    for (front, reason) in [
        ("10.96.0.11:80", "refused: the port has no endpoints"),
        (
            "10.96.0.10:81",
            "refused: the address is a VIP, and no Service has this port",
        ),
    ] {
        let text = explain(front);
        assert!(text.contains(&format!("from outside  {reason}")), "{text}");
        assert_eq!(client.call(Protocol::Tcp, front), Verdict::Refused);
    }
    let pod = explain(&lab.small.pods[0].v4.to_string());
    assert!(
        pod.contains("  endpoint behind 6 virtual servers\n"),
        "{pod}"
    );
    assert!(
        pod.contains("  10.96.0.10:80/TCP  default/web:http  -> "),
        "{pod}"
    );
    assert!(!pod.contains("drains"), "{pod}");
    let text = explain("192.0.2.10:80");
    assert!(
        text.contains("from outside  not taken by this node"),
        "{text}"
    );
    assert!(text.contains("-> 192.0.2.20:80 not masqueraded"), "{text}");
    assert!(
        text.contains("IPVS          192.0.2.10:80/TCP wlc, not ours"),
        "{text}"
    );
    let after = lab.node().sh(STATE);
    assert_eq!(before, after, "it only reads");
}

/// What is done to the node, what `explain` says of it from outside, and what
/// it must not say anywhere.
const BREAKAGES: [(&str, &str, &[&str]); 9] = [
    (
        "sysctl -qw net.ipv4.ip_forward=0",
        "dropped: net.ipv4.ip_forward is 0",
        &[],
    ),
    (
        "sysctl -qw net.ipv4.ip_forward=1
         nft add table ip fw
         nft add chain ip fw out '{ type filter hook forward priority 0; policy drop; }'",
        "dropped: nft table ip fw, chain out (hook forward, priority 0): policy drop",
        &[],
    ),
    (
        "nft delete table ip fw
         nft add table ip fw
         nft add chain ip fw in '{ type filter hook input priority 0; policy drop; }'",
        "dropped: nft table ip fw, chain in (hook input, priority 0): policy drop",
        &["served"],
    ),
    (
        "nft add rule ip fw in tcp dport 22 accept",
        "perhaps lost: nft table ip fw, chain in (hook input, priority 0): policy drop, which cannot be judged",
        &["from outside  served", "from outside  dropped"],
    ),
    (
        "nft delete table ip fw
         ipvsadm -e -t 10.96.0.10:80 -r $POD:8080 -m -w 0
         ipvsadm -e -t 10.96.0.10:80 -r 10.244.99.9:8080 -m -w 0",
        "refused: 10.96.0.10:80/TCP has 2 real servers, all at weight 0",
        &["served"],
    ),
    (
        "ipvsadm -d -t 10.96.0.10:80 -r $POD:8080
         ipvsadm -d -t 10.96.0.10:80 -r 10.244.99.9:8080",
        "refused: virtual server 10.96.0.10:80/TCP has lost all its real servers",
        &["served", "no endpoints"],
    ),
    (
        "ipvsadm -C",
        "left to this host's own programs: virtual server 10.96.0.10:80/TCP should be in IPVS and is not",
        &["served", "no Service"],
    ),
    (
        "ipvsadm -A -t 10.96.0.10:80 -s rr
         ipvsadm -a -t 10.96.0.10:80 -r $POD:8080 -m
         nft delete table ip kube-ipvs",
        "perhaps lost: our nftables table should have a row for 10.96.0.10:80/TCP and has none",
        &["from outside  served"],
    ),
    (
        "ip address delete 10.96.0.10/32 dev kube-ipvs0",
        "not taken by this node: 10.96.0.10 should be bound here and is not",
        &["from outside  served", "from pods     served"],
    ),
];

#[test]
fn what_somebody_broke_is_named_and_nothing_untrue_is_said() {
    let lab = Lab::new();
    let mut daemon = lab.daemon(&[]);
    let _server = lab.small.pods[0].serve(Protocol::Tcp, 8080);
    let explain = || output_of(&mut kube_ipvs(lab.node(), ["explain", "default/web:http"]));
    let client = Client::within(&lab.small.outside.namespace);
    let text = explain();
    assert!(!text.contains("note: no kube-ipvs runs here"), "{text}");
    assert!(
        text.contains("from outside  served by 2 real servers\n"),
        "{text}"
    );
    daemon.kill();
    let text = explain();
    assert!(text.starts_with("note: no kube-ipvs runs here"), "{text}");
    assert!(
        text.contains("from outside  served by 2 real servers\n"),
        "{text}"
    );

    let pod = lab.small.pods[0].v4.to_string();
    for (breakage, says, never) in BREAKAGES {
        lab.node()
            .sh(&format!("set -e\n{}", breakage.replace("$POD", &pod)));
        let text = explain();
        let block = text.split("10.96.0.10:80/TCP  default/web:http\n").nth(1);
        let block = block.unwrap_or_else(|| panic!("no block after {breakage}:\n{text}"));
        let block = block.split("\n  address ").next().unwrap_or_default();
        assert!(
            block.contains(&format!("from outside  {says}")),
            "{says:?} after {breakage}:\n{text}"
        );
        for never in never {
            assert!(
                !block.contains(never),
                "{never:?} after {breakage}:\n{text}"
            );
        }
        if !says.starts_with("perhaps") {
            let verdict = client.call(Protocol::Tcp, "10.96.0.10:80");
            assert!(
                !matches!(verdict, Verdict::Answered { .. }),
                "after {breakage}: {verdict:?}"
            );
        }
    }
}

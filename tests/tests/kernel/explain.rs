//! `kube-ipvs explain` beside what the kernel was given, and what clients meet.

use kube_ipvs_tests::{Client, Protocol, Verdict, kube_ipvs, output_of, ways};

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
    for (breakage, way) in ways::KERNEL {
        lab.node()
            .sh(&format!("set -e\n{}", breakage.replace("$POD", &pod)));
        let text = explain();
        // The Service has other fronts.
        let front = "10.96.0.10:80/TCP  default/web:http\n";
        let (notes, rest) = text
            .split_once(front)
            .unwrap_or_else(|| panic!("no block after {breakage}:\n{text}"));
        let notes = notes.lines().filter(|line| line.starts_with("note: "));
        let block = rest.split("\n  address ").next().unwrap_or_default();
        let asked = notes.chain(block.lines()).collect::<Vec<_>>().join("\n");
        way.check(&asked);
        let unsure = ["perhaps", "not judged"].iter();
        if !unsure.into_iter().any(|word| way.answer.contains(word)) {
            let verdict = client.call(Protocol::Tcp, "10.96.0.10:80");
            assert!(
                !matches!(verdict, Verdict::Answered { .. }),
                "after {breakage}: {verdict:?}"
            );
        }
    }
}

//! Firewalls of others: found, and opened by one rule when asked to.

use kube_ipvs_nft::{Config, Family, ForeignChain, Hook, Reason, Set};

use super::lab::{Content, Fate, Lab, Netns, Said, nft};

const BIT: u8 = 12;

fn drops(netns: &Netns) -> Vec<ForeignChain> {
    netns.run(|| nft().foreign_drops()).expect("listed")
}

#[test]
fn chains_that_drop_are_found_and_others_are_not() {
    let lab = Lab::new(Family::Ip);
    lab.apply(&lab.config(), &Content::new());
    assert_eq!(drops(&lab.node), []);
    lab.node.nft(
        "table ip filter {
            chain INPUT { type filter hook input priority 0; policy drop; ct state established accept; }
            chain FORWARD { type filter hook forward priority 0; policy drop; }
            chain OUTPUT { type filter hook output priority 0; policy drop; }
        }
        table inet firewalld {
            chain filter_INPUT { type filter hook input priority 10; tcp dport 22 accept; counter log reject with icmpx type admin-prohibited; }
            chain filter_FORWARD { type filter hook forward priority 10; tcp dport 22 drop; }
            chain open { type filter hook input priority 20; accept; }
            chain lead { type filter hook input priority 30; iif lo jump deep; }
            chain deep { tcp dport 23 drop; udp dport 53 counter reject; }
            chain unled { tcp dport 24 drop; }
            chain early { type filter hook input priority -150; policy drop; accept; }
        }
        table bridge br { chain in { type filter hook input priority 0; policy drop; }; }",
    );

    let found = drops(&lab.node);

    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "nft table ip filter, chain INPUT (hook input, priority 0): policy drop",
            "nft table ip filter, chain FORWARD (hook forward, priority 0): policy drop",
            "nft table inet firewalld, chain filter_INPUT (hook input, priority 10): its last rule drops the rest",
            "nft table inet firewalld, chain early (hook input, priority -150): policy drop",
        ]
    );
    let both = lab.node.run(|| nft().foreign_drops_and_some());
    let (same, some) = both.expect("read");
    assert_eq!(same, found);
    let texts: Vec<String> = some.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "nft table inet firewalld, chain filter_FORWARD (hook forward) drops or refuses some packets, by 1 rule",
            "nft table inet firewalld, chain lead (hook input) drops or refuses some packets, by 2 rules",
        ]
    );
    let reachable: Vec<bool> = found.iter().map(ForeignChain::is_reachable).collect();
    assert_eq!(reachable, [true, true, true, false]);
    assert_eq!(
        (found[0].hook, found[0].reason),
        (Hook::Input, Reason::Policy)
    );
    let error = lab
        .node
        .run(|| nft().accept_in(&found[3], BIT))
        .expect_err("too early");
    assert!(error.to_string().contains("out of reach"), "{error}");
}

#[test]
fn one_rule_opens_service_ports_and_nothing_else() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let _listeners = [22, 80].map(|port| lab.listen(port));
        let config = Config {
            accept_bit: Some(BIT),
            ..lab.config()
        };
        let content = Content::from([
            (Said::In(Set::Vips), lab.vip().to_string()),
            (Said::Served, lab.front("tcp", 80)),
        ]);
        lab.apply(&config, &content);
        let icmpv6 = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;";
        lab.node.nft(&format!(
            "table inet fw {{ chain in {{ type filter hook input priority 0; policy drop; {icmpv6} }}; }}"
        ));
        assert_eq!(
            lab.peer.expecting(Fate::Dropped).tcp(lab.vip(), 80),
            Fate::Dropped,
            "{family}"
        );
        let chain = drops(&lab.node).remove(0);
        assert!(!chain.accepted());
        assert!(!chain.drops_all, "{family}: it accepts some");

        let accept = || {
            lab.node
                .run(|| nft().accept_in(&chain, BIT))
                .expect("inserted")
        };
        assert!(accept(), "{family}");
        assert!(!accept(), "{family}: it stands there already");

        assert_eq!(lab.peer.tcp(lab.vip(), 80), Fate::Passed, "{family}");
        assert_eq!(
            lab.peer
                .expecting(Fate::Dropped)
                .tcp(lab.node_address(), 22),
            Fate::Dropped,
            "{family}"
        );
        let chain = drops(&lab.node).remove(0);
        assert!(chain.accepted(), "{family}");
        let marked = lab.node.run(|| nft().accept_bit(family)).expect("read");
        assert_eq!(marked, Some(BIT), "{family}");
        assert!(chain.accepts(marked), "{family}");
        assert!(!chain.accepts(Some(BIT + 1)), "{family}");
        assert!(!chain.accepts(None), "{family}: our table marks nothing");

        assert_eq!(lab.node.run(|| nft().remove_accepts()).expect("removed"), 1);
        assert_eq!(
            lab.node
                .run(|| nft().remove_accepts())
                .expect("nothing left"),
            0
        );
        assert_eq!(
            lab.peer.expecting(Fate::Dropped).tcp(lab.vip(), 80),
            Fate::Dropped,
            "{family}"
        );
        assert!(
            lab.node
                .nft("list table inet fw")
                .contains("nd-neighbor-solicit")
        );
    }
}

/// Anybody may comment a rule with our name; ours are those that also say what ours do.
#[test]
fn a_rule_that_only_bears_our_name_stays() {
    let lab = Lab::new(Family::Ip);
    let others = [
        r#"tcp dport 22 accept comment "kube-ipvs""#,
        r#"meta mark & 0x00001000 == 0x00001000 drop comment "kube-ipvs""#,
        r#"meta mark & 0x00001000 == 0x00001000 accept comment "not kube-ipvs""#,
        r#"meta mark & 0x00003000 == 0x00003000 accept comment "kube-ipvs""#,
        r#"meta mark & 0x00003000 == 0x00001000 accept comment "kube-ipvs""#,
        r#"meta mark & 0x00001000 == 0x00001000 counter accept comment "kube-ipvs""#,
    ];
    let rules = others.map(|rule| format!("{rule};")).concat();
    lab.node.nft(&format!(
        "table inet fw {{ chain in {{ type filter hook input priority 0; policy drop; {rules} }}; }}"
    ));
    let listed = lab.node.nft("list table inet fw");
    assert!(!drops(&lab.node)[0].accepted());
    assert_eq!(lab.node.run(|| nft().accepts()).expect("read"), 0);

    assert_eq!(lab.node.run(|| nft().remove_accepts()).expect("read"), 0);

    assert_eq!(lab.node.nft("list table inet fw"), listed);

    // What an older version of ours wrote in words is ours.
    lab.node.nft(
        r#"insert rule inet fw in meta mark & 0x00001000 == 0x00001000 accept comment "kube-ipvs""#,
    );
    assert_eq!(lab.node.run(|| nft().remove_accepts()).expect("read"), 1);
    assert_eq!(lab.node.nft("list table inet fw"), listed);
}

#[test]
fn one_rule_lets_answers_through_a_forward_policy_of_drop() {
    // peer -> node -> far; the node forwards, and its firewall lets requests pass, not answers.
    let lab = Lab::new(Family::Ip);
    let far = Netns::new();
    lab.node
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .expect("forwarding");
    lab.attach(&far, "veth1", "192.168.60");
    far.ip("route add default via 192.168.60.1");
    lab.peer.ip("route add 192.168.60.0/24 via 192.168.50.1");
    let _listener = far
        .run(|| std::net::TcpListener::bind("0.0.0.0:80"))
        .expect("listen");
    let target = "192.168.60.2".parse().expect("an address");
    assert_eq!(lab.peer.tcp(target, 80), Fate::Passed);
    lab.apply(
        &Config {
            accept_bit: Some(BIT),
            ..lab.config()
        },
        &Content::new(),
    );
    lab.node.nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; iif veth0 ct state new accept; }; }");
    assert_eq!(
        lab.peer.expecting(Fate::Dropped).tcp(target, 80),
        Fate::Dropped
    );
    let chain = drops(&lab.node).remove(0);

    lab.node
        .run(|| nft().accept_in(&chain, BIT))
        .expect("inserted");

    assert_eq!(lab.peer.tcp(target, 80), Fate::Passed);
    assert_eq!(
        far.expecting(Fate::Dropped).tcp(lab.peer_address(), 80),
        Fate::Dropped,
        "new flows are not ours to open"
    );
}

//! From kube-proxy's other modes: connections that they translated go on by
//! conntrack, new ones go through us, and their rules go.

use kube_ipvs_tests::{Namespace, Small};

use super::{Calls, Lab, V4, V6, all_answer};

/// What differs between the families of [`iptables`] and [`nftables`].
struct Family {
    /// Words of nft: `ip`, `ipv4_addr`.
    words: [&'static str; 2],
    iptables: &'static str,
    host: String,
    pods: [String; 2],
    pod_network: String,
    vip: &'static str,
}

/// Both families of a node.
fn families(small: &Small) -> [Family; 2] {
    let [network4, network6] = small.node.pod_cidrs();
    [
        Family {
            words: ["ip", "ipv4_addr"],
            iptables: "iptables-nft",
            host: small.node.v4().to_string(),
            pods: small.pods.each_ref().map(|pod| pod.v4.to_string()),
            pod_network: network4,
            vip: "10.96.0.10",
        },
        Family {
            words: ["ip6", "ipv6_addr"],
            iptables: "ip6tables-nft",
            host: small.node.v6().to_string(),
            pods: small.pods.each_ref().map(|pod| pod.v6.to_string()),
            pod_network: network6,
            vip: "fd00:96::10",
        },
    ]
}

/// As its iptables mode writes them for `default/web`, but for the choice of an
/// endpoint: its match `statistic` needs a library that the guest has not, and
/// halves of the client's ports stand in.
fn iptables(family: &Family) -> String {
    let Family {
        iptables,
        pods: [p1, p2],
        pod_network,
        vip,
        ..
    } = family;
    let [to1, to2] = family.pods.each_ref().map(|pod| {
        if pod.contains(':') {
            format!("[{pod}]:8080")
        } else {
            format!("{pod}:8080")
        }
    });
    format!(
        r#"
{iptables}-restore --noflush <<END
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-EXT-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-SEP-E2HHSDTNP5ZQWEQH - [0:0]
:KUBE-SEP-PDR7JLAHZHCB45DW - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d {vip} -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j KUBE-EXT-ERIFXISQEP7F7OF4
-A KUBE-EXT-ERIFXISQEP7F7OF4 -m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-ERIFXISQEP7F7OF4 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SVC-ERIFXISQEP7F7OF4 ! -s {pod_network} -d {vip} -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-ERIFXISQEP7F7OF4 -m comment --comment "default/web:http -> {to1}" -p tcp -m tcp --sport 0:47999 -j KUBE-SEP-E2HHSDTNP5ZQWEQH
-A KUBE-SVC-ERIFXISQEP7F7OF4 -m comment --comment "default/web:http -> {to2}" -j KUBE-SEP-PDR7JLAHZHCB45DW
-A KUBE-SEP-E2HHSDTNP5ZQWEQH -s {p1} -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-E2HHSDTNP5ZQWEQH -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination {to1}
-A KUBE-SEP-PDR7JLAHZHCB45DW -s {p2} -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-PDR7JLAHZHCB45DW -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination {to2}
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
END
"#
    )
}

/// As its nftables mode writes them.
fn nftables(family: &Family) -> String {
    let Family {
        words: [ip, address],
        host,
        pods: [p1, p2],
        pod_network,
        vip,
        ..
    } = family;
    format!(
        "
nft -f - <<END
table {ip} kube-proxy {{
  set hairpin-connections {{
    type {address} . {address} . inet_proto . inet_service
    elements = {{ {p1} . {p1} . tcp . 8080, {p2} . {p2} . tcp . 8080 }}
  }}
  set cluster-ips {{ type {address}; elements = {{ {vip} }}; }}
  set nodeport-ips {{ type {address}; elements = {{ {host} }}; }}
  map no-endpoint-services {{ type {address} . inet_proto . inet_service : verdict; }}
  chain service-TE7LFDGT-default/web/tcp/http {{
    {ip} daddr {vip} tcp dport 80 {ip} saddr != {pod_network} jump mark-for-masquerade
    meta l4proto tcp dnat {ip} to numgen random mod 2 map {{ 0 : {p1} . 8080, 1 : {p2} . 8080 }}
  }}
  chain external-TE7LFDGT-default/web/tcp/http {{
    jump mark-for-masquerade
    goto service-TE7LFDGT-default/web/tcp/http
  }}
  chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }}
  map service-ips {{
    type {address} . inet_proto . inet_service : verdict
    elements = {{ {vip} . tcp . 80 : goto service-TE7LFDGT-default/web/tcp/http }}
  }}
  map service-nodeports {{
    type inet_proto . inet_service : verdict
    elements = {{ tcp . 30080 : goto external-TE7LFDGT-default/web/tcp/http }}
  }}
  chain services {{
    {ip} daddr . meta l4proto . th dport vmap @service-ips
    {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }}
  chain service-endpoints-check {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain cluster-ips-check {{ {ip} daddr @cluster-ips reject; }}
  chain masquerading {{
    meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
    ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
  }}
  chain filter-input {{ type filter hook input priority 0; ct state new jump service-endpoints-check; }}
  chain filter-forward {{
    type filter hook forward priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
  chain filter-output {{
    type filter hook output priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
END
"
    )
}

/// Connections of IPVS, none before it serves.
fn carried(node: &Namespace) -> usize {
    let listed = node.sh("ipvsadm -Lnc");
    listed.lines().filter(|line| line.contains(":80 ")).count()
}

fn is_taken_over(rules: impl Fn(&Family) -> String) {
    let lab = Lab::new();
    // The node sends to a VIP by some route before that is translated.
    let outside = &lab.small.outside;
    for (network, via) in [
        ("10.96.0.0/12", outside.v4.to_string()),
        ("fd00:96::/112", outside.v6.to_string()),
    ] {
        lab.node().ip(&format!("route add {network} via {via}\n"));
    }
    let script: String = families(&lab.small).iter().map(rules).collect();
    lab.node().sh(&script);
    let mut connections = lab.connections();
    all_answer(&mut connections);
    assert_eq!(carried(lab.node()), 0, "they are translated by its rules");
    let calls = [V4, V6].map(|front| Calls::start(&lab.small.outside.namespace, front));

    let _daemon = lab.adopt(&[]);

    all_answer(&mut connections);
    calls.into_iter().for_each(Calls::finish);
    assert_eq!(lab.kube_proxy.leftovers(), Vec::<String>::new());
    let tables = lab.node().sh("nft list tables");
    assert!(!tables.contains("kube-proxy"), "{tables}");
    let before = carried(lab.node());
    let mut new = lab.connections();
    all_answer(&mut new);
    assert!(carried(lab.node()) > before, "they go through IPVS");
    all_answer(&mut connections);
}

#[test]
fn a_node_in_iptables_mode_is_taken_over_without_a_lost_connection() {
    is_taken_over(iptables);
}

#[test]
fn a_node_in_nftables_mode_is_taken_over_without_a_lost_connection() {
    is_taken_over(nftables);
}

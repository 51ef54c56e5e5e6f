//! `loadBalancerSourceRanges` beside kube-proxy's nftables mode: the same clients
//! get through.

use std::net::IpAddr;

use kube_ipvs_tests::{Client, Namespace, Protocol, Server, Verdict, run_with_input, wait_for};
use serde_json::json;

use super::site::{PATIENCE, Site};
use super::web::Web;

const INGRESS: &str = "203.0.113.10";
const CLUSTER_IP: &str = "10.96.0.10";
const NODE_PORT: u16 = 30_080;
/// A call that is to be dropped: long enough for an answer, had there been one.
/// Who is late once is asked again.
const SILENCE: std::time::Duration = std::time::Duration::from_millis(700);

/// And to how many of the four clients the load balancer's address is closed:
/// pods, one pod, the node's first address, the machine outside, nobody, all.
const RANGES: [(&[&str], usize); 6] = [
    (&["10.244.0.0/16"], 3),
    (&["192.168.50.1/32"], 3),
    (&["10.244.1.2/32"], 3),
    (&["192.168.50.128/25", "192.0.2.0/24"], 3),
    (&["198.51.100.0/24"], 4),
    (&["198.51.100.0/24", "0.0.0.0/0"], 0),
];

/// What kube-proxy 1.37 makes of the Service in its nftables mode: DNAT for each
/// front, and before it, for the load balancer's alone, a chain that drops all
/// but the ranges; no such chain where one of them is `/0`.
fn kube_proxy(ranges: &[&str]) -> String {
    let everybody = ranges.iter().any(|range| range.ends_with("/0"));
    let firewall = if everybody {
        String::new()
    } else {
        format!("elements = {{ {INGRESS} . tcp . 80 : goto firewall-web }}",)
    };
    let sources = ranges.join(", ");
    format!(
        "table ip kube-proxy {{
            chain firewall-web {{ ip saddr != {{ {sources} }} drop; }}
            chain endpoint-web {{ meta l4proto tcp dnat to 10.244.1.3:8080; }}
            chain external-web {{ meta mark set mark or 0x4000; goto endpoint-web; }}
            map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; {firewall} }}
            map service-ips {{
                type ipv4_addr . inet_proto . inet_service : verdict
                elements = {{ {CLUSTER_IP} . tcp . 80 : goto endpoint-web,
                              {INGRESS} . tcp . 80 : goto external-web }}
            }}
            chain services {{
                ip daddr . meta l4proto . th dport vmap @service-ips
                ip daddr 192.168.50.1 tcp dport {NODE_PORT} goto external-web
            }}
            chain check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
            chain fp {{ type filter hook prerouting priority -110; ct state new jump check; }}
            chain fo {{ type filter hook output priority -110; ct state new jump check; }}
            chain np {{ type nat hook prerouting priority dstnat; jump services; }}
            chain no {{ type nat hook output priority -100; jump services; }}
            chain po {{
                type nat hook postrouting priority srcnat
                meta mark and 0x4000 != 0 masquerade fully-random
            }}
        }}"
    )
}

struct Place {
    site: Site,
    _server: Server,
}

impl Place {
    fn new() -> Self {
        let site = Site::new();
        site.small.outside.route("203.0.113.0/24", &site.small.node);
        // Without a VIP of its own, kube-proxy's host needs a way out.
        site.node()
            .ip("route add default via 192.168.50.201\naddr add 192.168.50.77/24 dev eth0\n");
        let server = site.small.pods[1].serve(Protocol::Tcp, 8080);
        Self {
            site,
            _server: server,
        }
    }

    fn clients(&self) -> [(&'static str, &Namespace, IpAddr); 4] {
        let Site { small, .. } = &self.site;
        [
            ("pod", &small.pods[0].namespace, small.pods[0].v4.into()),
            ("node", self.site.node(), small.node.v4().into()),
            ("node's second", self.site.node(), [192, 168, 50, 77].into()),
            ("outside", &small.outside.namespace, small.outside.v4.into()),
        ]
    }

    /// Who gets through, front by front and client by client.
    fn through(&self) -> Vec<(String, bool)> {
        let node = self.site.small.node.v4();
        let fronts = [
            format!("{INGRESS}:80"),
            format!("{CLUSTER_IP}:80"),
            format!("{node}:{NODE_PORT}"),
        ];
        let mut seen = Vec::new();
        for to in fronts {
            for (name, namespace, address) in self.clients() {
                let client = Client::within(namespace).address(address).timeout(SILENCE);
                let verdict = client.call(Protocol::Tcp, &to);
                let answered = matches!(verdict, Verdict::Answered { .. });
                seen.push((format!("{name} to {to}"), answered));
            }
        }
        seen
    }
}

#[test]
fn source_ranges_let_in_whom_kube_proxys_nftables_mode_lets_in() {
    let mut place = Place::new();
    let closed = |seen: &[(String, bool)]| seen.iter().filter(|(_, through)| !through).count();
    let theirs = RANGES.map(|(ranges, shut)| {
        let node = place.site.node();
        node.run(|| run_with_input("nft", ["-f", "-"], &kube_proxy(ranges)));
        let seen = wait_for(PATIENCE, || {
            let seen = place.through();
            if closed(&seen) == shut {
                Ok(seen)
            } else {
                Err(seen)
            }
        });
        node.sh("nft delete table ip kube-proxy");
        seen.unwrap_or_else(|seen| panic!("not {shut} of kube-proxy's are shut: {seen:?}"))
    });

    let pod = place.site.small.pods[1].v4;
    let web = |ranges: &[&str]| {
        let web = Web::new("web", &[CLUSTER_IP]).port(Protocol::Tcp, 80, 8080);
        let web = web.node_ports(NODE_PORT).ingress(&[INGRESS]).endpoint(pod);
        web.spec("loadBalancerSourceRanges", json!(ranges))
    };
    place.site.write(&web(RANGES[0].0));
    place.site.start(&["--ipvs-min-sync-period=100ms"]);
    for ((ranges, _), theirs) in RANGES.iter().zip(theirs) {
        place.site.write(&web(ranges));
        let same = wait_for(PATIENCE, || {
            let ours = place.through();
            if ours == theirs { Ok(()) } else { Err(ours) }
        });
        same.unwrap_or_else(|ours| panic!("{ranges:?}\nours {ours:?}\ntheirs {theirs:?}"));
    }
}

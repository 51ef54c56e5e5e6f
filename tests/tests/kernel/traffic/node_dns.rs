//! A cache of DNS answers on the node (NodeLocal DNSCache), set up as its own
//! manifests do: a dummy link with the address of the cluster's DNS, programs that
//! listen there, and packets of theirs that nobody tracks.

use kube_ipvs_tests::{Protocol, Server, kube_ipvs, output_of, run_with_input, wait_until, ways};

use super::site::{PATIENCE, Site};
use super::web::Web;

const DNS: &str = "10.96.0.10:53";
/// Where the cache listens besides.
const LOCAL: &str = "169.254.20.10:53";

/// The link with its addresses, and the rules. On a node with IPVS they are there
/// before the program listens.
fn put_link(site: &Site) {
    site.node().ip("link add nodelocaldns type dummy\n\
         link set nodelocaldns up\n\
         addr add 169.254.20.10/32 dev nodelocaldns\n\
         addr add 10.96.0.10/32 dev nodelocaldns\n");
    let rules = "table ip nodelocaldns {
        chain prerouting {
            type filter hook prerouting priority raw
            ip daddr { 169.254.20.10, 10.96.0.10 } meta l4proto { tcp, udp } th dport 53 notrack
        }
        chain output {
            type filter hook output priority raw
            ip daddr { 169.254.20.10, 10.96.0.10 } meta l4proto { tcp, udp } th dport 53 notrack
            ip saddr { 169.254.20.10, 10.96.0.10 } meta l4proto { tcp, udp } th sport 53 notrack
        }
    }";
    site.node()
        .run(|| run_with_input("nft", ["-f", "-"], rules));
}

fn listen(site: &Site) -> Vec<Server> {
    let protocols = [Protocol::Udp, Protocol::Tcp];
    let all = [DNS, LOCAL].into_iter();
    let all = all.flat_map(|at| protocols.map(|protocol| (protocol, at)));
    all.map(|(protocol, at)| Server::start(site.node(), "cache", protocol, at))
        .collect()
}

/// Who answers pods and the host at the address of the cluster's DNS.
fn who(site: &Site) -> Vec<String> {
    let clients = [site.pod(), site.host()];
    let all = clients.iter().flat_map(|client| {
        [Protocol::Udp, Protocol::Tcp].map(|protocol| client.call(protocol, DNS).name())
    });
    all.collect()
}

fn wait_for(site: &Site, name: &str) {
    wait_until(&format!("{name} answers"), PATIENCE, || {
        who(site).iter().all(|who| who == name)
    });
}

#[test]
fn a_cache_of_dns_on_the_node_answers_while_its_link_is_there() {
    let mut site = Site::new();
    let pod = &site.small.pods[1];
    let _servers = [
        pod.serve(Protocol::Udp, 8080),
        pod.serve(Protocol::Tcp, 8080),
    ];
    let dns = Web::new("dns", &["10.96.0.10"]);
    let dns = dns
        .port(Protocol::Udp, 53, 8080)
        .port(Protocol::Tcp, 53, 8080);
    site.write(&dns.endpoint(pod.v4));
    put_link(&site);
    let cache = listen(&site);

    site.start(&["--ipvs-min-sync-period=100ms", "--ipvs-sync-period=5s"]);
    let captured = || site.table().contains("10.96.0.10:53");
    wait_until("its fronts are left to it", PATIENCE, || !captured());
    assert_eq!(who(&site), ["cache"; 4]);
    assert_eq!(site.pod().call(Protocol::Udp, LOCAL).name(), "cache");
    let ours = site.node().sh("nft list table ip kube-ipvs");
    assert!(!ours.contains("10.96.0.10 "), "{ours}");
    let asked = ways::NODE_DNS.ask.arguments();
    ways::NODE_DNS.check(&output_of(&mut kube_ipvs(site.node(), asked)));

    // The node's cache is taken away: its program, rules and link.
    drop(cache);
    site.node().sh("nft delete table ip nodelocaldns");
    site.node().ip("link delete nodelocaldns\n");
    wait_for(&site, "p2");
    site.wait_for_vip("10.96.0.10");

    // And comes back while the Service is served.
    put_link(&site);
    let _cache = listen(&site);
    wait_for(&site, "cache");
}

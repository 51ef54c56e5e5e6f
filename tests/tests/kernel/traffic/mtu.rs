//! Large answers across a link that takes small packets only: the router before
//! it tells the VIP, and the endpoint must hear of it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use kube_ipvs_tests::{Namespace, Outside, Pod, Protocol, run};

use super::site::Site;
use super::web::Web;

const LENGTH: usize = 2 << 20;

/// No packet is longer on the client's link; the client does not know.
const SMALL: u16 = 1280;

/// A client behind a router of the nodes' network.
struct Far {
    client: Namespace,
    router: Outside,
}

impl Far {
    fn new(site: &Site) -> Self {
        let router = site.small.topology.outside();
        let client = Namespace::child("far");
        for net in ["10.96.0.0/12", "fd00:96::/112"] {
            router.route(net, &site.small.node);
        }
        router.namespace.sysctl("net/ipv4/ip_forward", "1");
        router.namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
        let peer = client.name();
        router.namespace.ip(&format!(
            "link add small type veth peer name eth0 netns {peer}\nlink set small mtu {SMALL} up\n\
                 addr add 192.168.60.1/24 dev small\naddr add fd00:60::1/64 dev small nodad\n"
        ));
        client.ip(
            "link set eth0 mtu 1500 up\naddr add 192.168.60.2/24 dev eth0\n\
             addr add fd00:60::2/64 dev eth0 nodad\nroute add default via 192.168.60.1\n\
             route add default via fd00:60::1\n",
        );
        let (v4, v6) = (router.v4, router.v6);
        site.node().ip(&format!(
            "route add 192.168.60.0/24 via {v4}\nroute add fd00:60::/64 via {v6}\n"
        ));
        Self { client, router }
    }

    /// How many bytes came.
    fn download(&self, from: SocketAddr) -> Result<usize, String> {
        let patience = Duration::from_secs(8);
        self.client.run(|| {
            let text = |what: &str, e: std::io::Error| format!("{what}: {e}");
            let mut stream =
                TcpStream::connect_timeout(&from, patience).map_err(|e| text("connect", e))?;
            stream
                .set_read_timeout(Some(patience))
                .map_err(|e| text("set a time-out", e))?;
            let (mut buffer, mut length) = (vec![0; 1 << 16], 0);
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return Ok(length),
                    Ok(more) => length += more,
                    Err(e) => return Err(text(&format!("after {length} bytes"), e)),
                }
            }
        })
    }

    /// Packets the router found too long, and told the sender so.
    fn too_long(&self, family: &IpAddr) -> u64 {
        let script = match family {
            // A line of names, and a line of numbers.
            IpAddr::V4(_) => {
                "awk '/^Ip:/ { if (n) print $n; \
                 for (i = 1; i <= NF; i++) if ($i == \"FragFails\") n = i }' /proc/net/snmp"
            }
            IpAddr::V6(_) => "awk '/^Ip6InTooBigErrors/ { print $2 }' /proc/net/snmp6",
        };
        let count = self.router.namespace.sh(script);
        count
            .trim()
            .parse()
            .unwrap_or_else(|e| panic!("{count:?}: {e}"))
    }
}

/// Sends whoever comes to port 8080 a long answer. Threads end with the test.
fn serve(pod: &Pod) {
    for address in [IpAddr::from(pod.v4), pod.v6.into()] {
        let listener = pod
            .namespace
            .run(|| TcpListener::bind((address, 8080)).expect("listen"));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || stream.write_all(&vec![b'x'; LENGTH]));
            }
        });
    }
}

/// What went wrong with downloads from a ClusterIP and a node port.
fn downloads(binding: &str) -> Vec<String> {
    let mut site = Site::new();
    let pod = &site.small.pods[0];
    serve(pod);
    let web = Web::new("web", &["10.96.0.10", "fd00:96::10"])
        .port(Protocol::Tcp, 80, 8080)
        .node_ports(30_080);
    site.write(&web.endpoint(pod.v4).endpoint(pod.v6));
    site.start(&[
        &format!("--vip-binding={binding}"),
        // So that answers go through address translation here.
        "--cluster-cidr=10.244.0.0/16,fd00:244::/32",
    ]);
    let far = Far::new(&site);
    let node = &site.small.node;
    let targets = [
        SocketAddr::new("10.96.0.10".parse().expect("an address"), 80),
        SocketAddr::new("fd00:96::10".parse().expect("an address"), 80),
        SocketAddr::new(node.v4().into(), 30_080),
        SocketAddr::new(node.v6().into(), 30_080),
    ];
    let mut wrong = Vec::new();
    for target in targets {
        // What was learnt before must not help.
        for place in [site.node(), &site.small.pods[0].namespace] {
            for family in ["-4", "-6"] {
                place.run(|| run("ip", [family, "route", "flush", "cache"]));
            }
        }
        let before = far.too_long(&target.ip());
        let came = far.download(target);
        let told = far.too_long(&target.ip()) - before;
        if came != Ok(LENGTH) || told == 0 {
            wrong.push(format!(
                "{binding} binding, {target}: {came:?}, router told {told} times"
            ));
        }
    }
    wrong
}

#[test]
fn a_download_crosses_a_link_of_small_packets() {
    let wrong = ["address", "route"].map(downloads).concat();

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Clients that call several addresses of one endpoint from one source port.
//! IPVS tells answers apart by endpoint and client alone, so only some of it
//! can work: see `docs/limitations.md`.

use std::net::{IpAddr, SocketAddr};

use kube_ipvs_tests::{Client, Protocol, Server, Verdict};

use super::site::Site;
use super::web::Web;

/// Of two Services, by family.
const VIPS: [[&str; 2]; 2] = [["10.96.0.10", "10.96.0.11"], ["fd00:96::10", "fd00:96::11"]];
const FIRST_PORT: u16 = 80;
const ENDPOINT_PORT: u16 = 8080;
/// Clear of the ports that kernels pick and of NodePorts.
const FIRST_SOURCE_PORT: u16 = 20_000;

/// Two Services over the first pod.
struct Pair {
    site: Site,
    _servers: Vec<Server>,
}

/// Addresses of the endpoint, and a source port to call them from.
struct Targets {
    protocol: Protocol,
    source_port: u16,
    endpoint: String,
    vips: [String; 2],
}

impl Pair {
    fn new() -> Self {
        let mut site = Site::new();
        let p1 = &site.small.pods[0];
        let both = |protocol| {
            let four = p1.serve(protocol, ENDPOINT_PORT);
            [four, p1.serve_v6(protocol, ENDPOINT_PORT)]
        };
        let servers = Protocol::ALL.into_iter().flat_map(both).collect();
        for (name, number) in [("one", 0), ("two", 1)] {
            let mut web = Web::new(name, &VIPS.map(|vips| vips[number]))
                .endpoint(p1.v4)
                .endpoint(p1.v6);
            for (protocol, port) in Protocol::ALL.into_iter().zip(FIRST_PORT..) {
                web = web.port(protocol, port, ENDPOINT_PORT);
            }
            site.write(&web);
        }
        site.start(&["--cluster-cidr=10.244.0.0/16,fd00:244::/32"]);
        Self {
            site,
            _servers: servers,
        }
    }

    /// For each protocol and family.
    fn targets(&self) -> Vec<Targets> {
        let p1 = &self.site.small.pods[0];
        let mut targets = Vec::new();
        for (address, vips) in [IpAddr::from(p1.v4), p1.v6.into()].into_iter().zip(VIPS) {
            for (protocol, port) in Protocol::ALL.into_iter().zip(FIRST_PORT..) {
                let vip = |vip: &str| SocketAddr::new(vip.parse().expect("an address"), port);
                targets.push(Targets {
                    protocol,
                    source_port: FIRST_SOURCE_PORT + port,
                    endpoint: SocketAddr::new(address, ENDPOINT_PORT).to_string(),
                    vips: vips.map(|text| vip(text).to_string()),
                });
            }
        }
        targets
    }

    /// Its source is kept.
    fn pod(&self) -> Client<'_> {
        Client::within(&self.site.small.pods[1].namespace)
    }
}

fn answered(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Answered { .. })
}

#[test]
fn one_source_port_calls_an_endpoint_and_its_vips_in_turn() {
    let pair = Pair::new();
    let mut wrong = Vec::new();
    for targets in pair.targets() {
        let protocol = targets.protocol;
        let pod = pair.pod().port(targets.source_port);
        // It is masqueraded, and knows no pods.
        let outside = pair.site.outside().port(targets.source_port);
        let [one, two] = &targets.vips;
        let calls = [
            (&pod, &targets.endpoint),
            (&pod, one),
            (&pod, two),
            (&outside, one),
            (&outside, two),
        ];
        for (client, to) in calls {
            let verdict = client.call(protocol, to);
            if !answered(&verdict) {
                wrong.push(format!("{protocol} {to}: {verdict:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_younger_of_two_flows_from_one_port_is_served() {
    let pair = Pair::new();
    let mut wrong = Vec::new();
    for targets in pair.targets() {
        let protocol = targets.protocol;
        for client in [pair.pod(), pair.site.outside()] {
            let client = client.port(targets.source_port);
            let [mut older, mut younger] = targets
                .vips
                .each_ref()
                .map(|to| client.connect(protocol, to).expect("it answers"));
            // UDP has no flow before its first packet.
            let verdicts = [older.ask(), younger.ask(), younger.ask()];
            if !verdicts[1..].iter().all(answered) {
                wrong.push(format!("{protocol} {:?}: {verdicts:?}", targets.vips));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Facts in, one verdict for each asker out.

mod rollout;
mod service;
mod targets;

use std::net::IpAddr;

use kube_ipvs_core::row::{Masquerade, Row, Verdict};
use kube_ipvs_core::state::{Family, Front, RealServer, VirtualServer, VirtualServerKey};
use kube_ipvs_dataplane::Connections;
use kube_ipvs_nft::{ForeignChain, Hook, Reason as Why, SomeRedirected};

use super::account::Known;
use super::{Explanation, Seen, explain};

const MARK: VirtualServerKey = VirtualServerKey::Mark {
    mark: 291,
    family: Family::V4,
};

fn front() -> Front {
    "203.0.113.5:80/TCP".parse().expect("a front")
}

fn server(reals: &[(&str, u32)]) -> VirtualServer {
    let real = |(at, weight): &(&str, u32)| {
        let state = RealServer {
            weight: *weight,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        (at.parse().expect("a real server"), state)
    };
    VirtualServer {
        scheduler: "rr".into(),
        flags: Default::default(),
        persistence: None,
        real_servers: reals.iter().map(real).collect(),
    }
}

/// A load balancer's address with two endpoints, one of them leaving.
fn seen(row: Row) -> Seen {
    let mut seen = Seen {
        runs: true,
        ..Seen::default()
    };
    let key = VirtualServerKey::Front(front());
    let web = server(&[("10.244.1.2:8080", 1), ("10.244.1.3:8080", 0)]);
    seen.state.virtual_servers.insert(key, web.into());
    seen.state.vips.insert(front().address);
    seen.state.table.guarded.insert(front().address);
    let row = row.said().map(|row| (front(), row));
    seen.state.table.rows.extend(row);
    seen.recorded.insert(key, "default/web:http".into());
    for path in ["net/ipv4/ip_forward", "net/ipv4/vs/conntrack"] {
        seen.sysctls.insert(path, "1".into());
    }
    seen
}

fn serving() -> Seen {
    seen(Row {
        masquerade: Masquerade::Always,
        ..Row::of(Verdict::Serve)
    })
}

fn only(nets: &[&str]) -> Seen {
    let nets: Vec<_> = nets
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect();
    seen(Row {
        sources: Some(nets.into()),
        ..Row::of(Verdict::Serve)
    })
}

fn local() -> Seen {
    let mut seen = seen(Row {
        inside: Some(291),
        ..Row::of(Verdict::DropOutside)
    });
    let by_mark = server(&[("10.244.1.2:8080", 1), ("10.244.2.9:8080", 1)]);
    seen.state.virtual_servers.insert(MARK, by_mark.into());
    seen
}

fn chain(hook: Hook, drops_all: bool) -> ForeignChain {
    ForeignChain {
        family: "inet".into(),
        table: "fw".into(),
        chain: "in".into(),
        hook,
        priority: 0,
        reason: Why::Policy,
        accept_bits: 0,
        drops_all,
    }
}

fn with(mut seen: Seen, change: impl FnOnce(&mut Seen)) -> Seen {
    change(&mut seen);
    seen
}

fn of(seen: &Seen, client: Option<IpAddr>) -> Explanation {
    explain(&front(), client, &Known::default(), seen)
}

/// What the askers are told, the same ones once.
fn verdicts(seen: &Seen) -> Vec<String> {
    let Explanation {
        outside,
        pods,
        host,
        ..
    } = of(seen, None);
    let mut told = vec![outside.to_string(), pods.to_string(), host.to_string()];
    told.dedup();
    told
}

const SERVED: &str = "served by 1 real server, 1 more at weight 0, with this node as source";

#[test]
fn each_fact_has_its_verdict() {
    let server_gone = |seen: &mut Seen| {
        seen.state.virtual_servers.clear();
    };
    let holds = |reals: &'static [(&'static str, u32)]| {
        move |seen: &mut Seen| {
            let key = VirtualServerKey::Front(front());
            seen.state.virtual_servers.insert(key, server(reals).into());
        }
    };
    let input = "nft table inet fw, chain in (hook input, priority 0): policy drop";
    let forward = "nft table inet fw, chain in (hook forward, priority 0): policy drop";
    let cases: Vec<(&str, Seen, Vec<String>)> = vec![
        ("serves", serving(), vec![SERVED.into()]),
        (
            "refused",
            seen(Row::of(Verdict::Refuse)),
            vec!["refused: no endpoint that this node may use is ready, or the kernel refused its virtual server".into()],
        ),
        (
            "guard",
            with(seen(Row::default()), |seen| seen.recorded.clear()),
            vec![
                "refused: the address is a VIP, and no Service has this port".into(),
                "served by 1 real server, 1 more at weight 0".into(),
            ],
        ),
        (
            "row gone",
            seen(Row::default()),
            vec![
                "refused: our nftables table should have a row for 203.0.113.5:80/TCP and has none".into(),
                "perhaps lost: our nftables table should have a row for 203.0.113.5:80/TCP and has none".into(),
            ],
        ),
        (
            "table gone",
            with(seen(Row::default()), |seen| seen.state.table = Default::default()),
            vec!["perhaps lost: our nftables table should have a row for 203.0.113.5:80/TCP and has none".into()],
        ),
        (
            "flushed",
            with(serving(), server_gone),
            vec!["left to this host's own programs: virtual server 203.0.113.5:80/TCP should be in IPVS and is not".into()],
        ),
        (
            "mark flushed",
            with(local(), |seen| _ = seen.state.virtual_servers.remove(&MARK)),
            vec![
                "dropped: externalTrafficPolicy is Local, and no ready endpoint is on this node".into(),
                "left to this host's own programs: virtual server FWM 291 should be in IPVS and is not".into(),
            ],
        ),
        (
            "real servers gone",
            with(serving(), holds(&[])),
            vec!["refused: virtual server 203.0.113.5:80/TCP has lost all its real servers".into()],
        ),
        (
            "draining",
            with(serving(), holds(&[("10.244.1.2:8080", 0)])),
            vec!["refused: 203.0.113.5:80/TCP has 1 real server, all at weight 0: they only drain".into()],
        ),
        (
            "unbound",
            with(serving(), |seen| seen.state.vips.clear()),
            vec![
                "not taken by this node: 203.0.113.5 should be bound here and is not".into(),
                SERVED.into(),
            ],
        ),
        (
            "nowhere",
            Seen::default(),
            vec!["not taken by this node: 203.0.113.5 is no address of this node".into()],
        ),
        (
            "the host's",
            with(Seen::default(), |seen| _ = seen.host.insert(front().address)),
            vec!["left to this host's own programs: no Service has this port here".into()],
        ),
        (
            "unguarded",
            with(Seen::default(), |seen| _ = seen.state.vips.insert(front().address)),
            vec!["left to this host's own programs: our nftables table should guard 203.0.113.5 and does not, or is gone".into()],
        ),
        (
            "nobody",
            only(&[]),
            vec!["dropped: no network of loadBalancerSourceRanges is one: it is open to nobody".into()],
        ),
        (
            "ranges",
            only(&["192.0.2.0/24"]),
            vec!["served by 1 real server, 1 more at weight 0, for 192.0.2.0/24 only; others are dropped".into()],
        ),
        (
            "input drops",
            with(serving(), |seen| seen.chains.push(chain(Hook::Input, true))),
            vec![format!("dropped: {input}, and no rule of it lets Service traffic pass")],
        ),
        (
            "input may drop",
            with(serving(), |seen| seen.chains.push(chain(Hook::Input, false))),
            vec![format!(
                "perhaps lost: {input}, which cannot be judged: unless a rule of it lets Service traffic pass; then {SERVED}"
            )],
        ),
        (
            "forward drops",
            with(serving(), |seen| seen.chains.push(chain(Hook::Forward, true))),
            vec![
                format!("dropped: {forward}, and no rule of it lets answers of endpoints pass"),
                SERVED.into(),
            ],
        ),
        (
            "accepted",
            with(serving(), |seen| {
                seen.chains.push(ForeignChain { accept_bits: 1 << 13, ..chain(Hook::Input, true) });
                seen.accept_bits.insert(Family::V4, 13);
            }),
            vec![SERVED.into()],
        ),
        (
            "accepted by another bit",
            with(serving(), |seen| {
                seen.chains.push(ForeignChain { accept_bits: 1 << 13, ..chain(Hook::Input, true) });
                seen.accept_bits.insert(Family::V4, 12);
                seen.accept_bits.insert(Family::V6, 13);
            }),
            vec![format!("dropped: {input}, and no rule of it lets Service traffic pass")],
        ),
        (
            "another family's",
            with(serving(), |seen| {
                seen.chains.push(ForeignChain { family: "ip6".into(), ..chain(Hook::Input, true) });
            }),
            vec![SERVED.into()],
        ),
        (
            "no forwarding",
            with(serving(), |seen| _ = seen.sysctls.insert("net/ipv4/ip_forward", "0".into())),
            vec![
                "dropped: net.ipv4.ip_forward is 0: answers of endpoints are not forwarded".into(),
                SERVED.into(),
            ],
        ),
        (
            "no tracking",
            with(serving(), |seen| _ = seen.sysctls.insert("net/ipv4/vs/conntrack", "0".into())),
            vec!["dropped: net.ipv4.vs.conntrack is 0: nothing is masqueraded, so answers do not come back here".into()],
        ),
        (
            "Local, elsewhere",
            local(),
            vec![
                "dropped: externalTrafficPolicy is Local, and no ready endpoint is on this node".into(),
                "served by 2 real servers of FWM 291".into(),
            ],
        ),
        (
            "health check",
            with(seen(Row::of(Verdict::Serve)), |seen| {
                seen.state.virtual_servers.clear();
                seen.recorded.clear();
            }),
            vec!["served by this host itself: a port for health checks".into()],
        ),
    ];
    for (name, seen, expected) in cases {
        assert_eq!(verdicts(&seen), expected, "{name}");
    }
}

#[test]
fn who_is_not_served_by_our_fault_or_yours_is_told_what_to_do() {
    let flushed = |runs| {
        with(serving(), |seen| {
            seen.runs = runs;
            seen.state.virtual_servers.clear();
        })
    };
    let [running] = &of(&flushed(true), None).remedies[..] else {
        panic!("one remedy for three askers")
    };
    assert!(running.contains("--ipvs-sync-period"), "{running}");
    let [stopped] = &of(&flushed(false), None).remedies[..] else {
        panic!("one remedy for three askers")
    };
    assert!(stopped.contains("start kube-ipvs"), "{stopped}");
    assert_eq!(of(&serving(), None).remedies, Vec::<String>::new());
    assert!(serving().notes().is_empty());
    let notes = |seen: Seen| seen.notes().concat();
    let left = "no kube-ipvs runs here: what it left serves on, ";
    assert!(notes(flushed(false)).starts_with(left));
    let bare = notes(Seen::default());
    assert!(
        bare.starts_with("no kube-ipvs runs here, and nothing of one is left: "),
        "{bare}"
    );
}

#[test]
fn what_may_take_a_port_of_the_host_is_told_where_one_is_explained() {
    let chain = SomeRedirected {
        family: "ip".into(),
        table: "nat".into(),
        chain: "PREROUTING".into(),
        rules: 1,
    };
    let seen = with(serving(), |seen| {
        seen.host.insert("192.0.2.1".parse().expect("an address"));
        seen.redirecting.push(chain);
    });
    let told = |front: &str| seen.redirected(&[front.parse().expect("a front")].into());

    assert_eq!(told("203.0.113.5:80/TCP"), [""; 0], "a VIP");
    assert_eq!(
        told("192.0.2.1:30080/TCP"),
        [
            "not judged: whether a port of this host's own addresses is among it: nft table ip \
             nat, chain PREROUTING gives some packets another destination, by 1 rule"
        ]
    );
}

#[test]
fn a_client_is_told_of_itself() {
    let seen = only(&["192.0.2.0/24"]);
    let of = |client: &str| {
        let client = client.parse().expect("an address");
        of(&seen, Some(client)).outside.to_string()
    };

    assert_eq!(
        of("192.0.2.7"),
        "served by 1 real server, 1 more at weight 0"
    );
    assert_eq!(
        of("198.51.100.7"),
        "dropped: 198.51.100.7 is not among 192.0.2.0/24"
    );
}

#[test]
fn an_endpoint_of_this_host_needs_no_forwarding() {
    let seen = with(serving(), |seen| {
        seen.host.insert("10.244.1.2".parse().expect("an address"));
        seen.sysctls.insert("net/ipv4/ip_forward", "0".into());
        seen.chains.push(chain(Hook::Forward, true));
    });

    assert_eq!(verdicts(&seen), [SERVED]);
}

#[test]
fn a_front_is_told_with_all_its_layers() {
    let mut seen = only(&["192.0.2.0/24"]);
    let leaving = (
        VirtualServerKey::Front(front()),
        "10.244.1.3:8080".parse().expect("a real server"),
    );
    let counts = Connections {
        active: 3,
        inactive: 1,
    };
    seen.connections.insert(leaving, counts);

    assert_eq!(
        of(&seen, None).to_string(),
        "203.0.113.5:80/TCP  default/web:http
  from outside  served by 1 real server, 1 more at weight 0, for 192.0.2.0/24 only; others are dropped
  from pods     served by 1 real server, 1 more at weight 0, for 192.0.2.0/24 only; others are dropped
  from host     served by 1 real server, 1 more at weight 0, for 192.0.2.0/24 only; others are dropped
  open to       192.0.2.0/24
  address       VIP, bound as an address
  row           serve, guarded
  IPVS          203.0.113.5:80/TCP rr, ours
                  -> 10.244.1.2:8080 weight 1, 0 active, 0 inactive
                  -> 10.244.1.3:8080 weight 0, 3 active, 1 inactive
"
    );
}

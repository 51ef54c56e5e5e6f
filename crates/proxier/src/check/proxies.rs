//! Another Service proxy: alive, or what it left behind.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kube_ipvs_dataplane::kube_proxy::names::tables_of;
use kube_ipvs_dataplane::record::FILE_NAME;
use kube_ipvs_nft::NamedChain;

use super::CheckArgs;
use super::finding::Finding;
use super::host::Host;

/// What would serve the same Services, whatever it is told.
const PROXY: &str = "kube-proxy";
/// Where kube-proxy, and we, answer which mode they are in.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
const PATIENCE: Duration = Duration::from_millis(500);
const LINK: &str = "kube-ipvs0";
/// For so long it is believed who answers there: to tell costs all metrics.
const BELIEVED: Duration = Duration::from_secs(600);

/// Since when it is known that we ourselves answer; none for not at all.
pub(super) type Ourselves = Cell<Option<Instant>>;

/// What tells of another proxy.
#[derive(Debug, Default)]
struct Seen {
    /// Its process is to be seen.
    running: bool,
    /// What answers `/proxyMode`, when it is not us.
    mode: Option<String>,
    /// Addresses on the link.
    addresses: usize,
    /// A record of ours exists.
    record: bool,
    /// nft tables with chains of kube-proxy.
    tables: Vec<String>,
    /// They will be taken over.
    adopted: bool,
}

/// `runs` says whether a kube-ipvs does.
pub(super) fn check(
    host: &Host,
    args: &CheckArgs,
    chains: &[NamedChain],
    runs: bool,
    ourselves: &Ourselves,
) -> Vec<Finding> {
    let ask = |path: &str| get(METRICS, path);
    let seen = Seen {
        running: host.processes().iter().any(|name| name == PROXY),
        mode: other_mode(ask, runs, ourselves, Instant::now()),
        addresses: addresses_on_link(),
        record: args.state_dir.join(FILE_NAME).exists(),
        tables: kube_proxys(chains),
        adopted: args.adopt_kube_proxy,
    };
    vec![alive(&seen), remains(&seen)]
}

fn alive(seen: &Seen) -> Finding {
    let name = "other proxy";
    let who = match (&seen.mode, seen.running) {
        (None, false) => return Finding::ok(name, "none runs"),
        (Some(mode), false) => format!("a kube-proxy in mode {mode} answers at {METRICS}"),
        (_, true) => format!("{PROXY} runs"),
    };
    Finding::fail(
        name,
        format!("{who}: two proxies undo each other's work"),
        "stop it on this node first (for kube-proxy: change its DaemonSet's node selector)",
    )
}

fn remains(seen: &Seen) -> Finding {
    let name = "remains of kube-proxy";
    let mut remains = Vec::new();
    if seen.addresses > 0 && !seen.record {
        remains.push(format!("{} addresses on {LINK}", seen.addresses));
    }
    if !seen.tables.is_empty() {
        remains.push(format!("chains in nft {}", seen.tables.join(", ")));
    }
    match (remains.is_empty(), seen.adopted) {
        (true, _) => Finding::ok(name, "none"),
        (false, true) => Finding::ok(name, format!("{}: taken over", remains.join("; "))),
        (false, false) => Finding::warn(
            name,
            remains.join("; "),
            "start with --adopt-kube-proxy, which keeps connections; or run `kube-proxy --cleanup` before the start, which ends them",
        ),
    }
}

/// The mode of a proxy that is not us; reaches one in another PID namespace too.
fn other_mode(
    mut ask: impl FnMut(&str) -> Option<String>,
    runs: bool,
    ourselves: &Ourselves,
    now: Instant,
) -> Option<String> {
    if !runs {
        // Somebody else may have taken our place, or will: one of ours that is
        // about to end answers for a while without its lock.
        ourselves.set(None);
    }
    let known = ourselves.get();
    if known.is_some_and(|since| now < since + BELIEVED) {
        return None;
    }
    let mode = ask("/proxyMode")?;
    let ours = ask("/metrics")?.contains("kube_ipvs_build_info");
    ourselves.set((ours && runs).then_some(now));
    let known = ["ipvs", "iptables", "nftables"].contains(&mode.as_str());
    (known && !ours).then_some(mode)
}

/// The body of a good answer.
fn get(from: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&from, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {from}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let good = head.split(' ').nth(1) == Some("200");
    good.then(|| body.trim().to_owned())
}

fn addresses_on_link() -> usize {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return 0;
    };
    interfaces
        .filter(|interface| interface.interface_name == LINK)
        .filter_map(|interface| interface.address)
        .filter(|address| address.as_sockaddr_in().is_some() || address.as_sockaddr_in6().is_some())
        .count()
}

/// What iptables-legacy holds is none of nf_tables, and not seen.
fn kube_proxys(chains: &[NamedChain]) -> Vec<String> {
    let named = |(family, table)| format!("{family} {table}");
    tables_of(chains).into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    #[test]
    fn a_proxy_that_runs_fails() {
        let made = host(&[
            ("/proc/1/comm", "systemd\n"),
            ("/proc/812/comm", "kube-proxy\n"),
            ("/proc/self/comm", "kube-router\n"),
        ]);
        let seen = Seen {
            running: made.host.processes().iter().any(|name| name == PROXY),
            ..Seen::default()
        };

        let finding = alive(&seen);

        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.detail.starts_with("kube-proxy runs"), "{finding:?}");
    }

    #[test]
    fn a_proxy_in_another_pid_namespace_is_heard() {
        let seen = Seen {
            mode: Some("iptables".into()),
            ..Seen::default()
        };

        assert!(alive(&seen).detail.contains("mode iptables"));
    }

    #[test]
    fn addresses_are_remains_unless_they_are_ours() {
        let theirs = Seen {
            addresses: 40,
            ..Seen::default()
        };
        let ours = Seen {
            addresses: 40,
            record: true,
            ..Seen::default()
        };

        assert_eq!(remains(&theirs).detail, "40 addresses on kube-ipvs0");
        assert_eq!(remains(&theirs).verdict, Verdict::Warn);
        assert_eq!(remains(&ours).verdict, Verdict::Ok);
        let adopted = Seen {
            adopted: true,
            ..theirs
        };
        assert_eq!(
            remains(&adopted),
            Finding::ok(
                "remains of kube-proxy",
                "40 addresses on kube-ipvs0: taken over"
            )
        );
    }

    #[test]
    fn chains_of_kube_proxy_are_told_from_the_kubelets() {
        let chains = [
            ("ip", "mangle", "KUBE-IPTABLES-HINT"),
            ("ip", "nat", "KUBE-SERVICES"),
            ("ip", "nat", "KUBE-POSTROUTING"),
            ("ip6", "kube-proxy", "services"),
            ("ip", "filter", "DOCKER"),
            // kube-router's, which filters for pods.
            ("ip", "filter", "KUBE-POD-FW-ERIFXISQEP7F7OF4"),
        ]
        .map(|(family, table, chain)| NamedChain::new(family, table, chain));

        assert_eq!(kube_proxys(&chains), ["ip nat", "ip6 kube-proxy"]);
    }

    /// Each look would make the daemon write all its metrics.
    #[test]
    fn who_was_found_to_be_ourselves_is_believed_for_a_while() {
        let (ourselves, now) = (Ourselves::default(), Instant::now());
        let mut asked = Vec::new();
        let mut look = |metrics: &str, at| {
            let ask = |path: &str| {
                asked.push(path.to_owned());
                Some(answered(path, metrics))
            };
            other_mode(ask, true, &ourselves, at)
        };
        let ours = "kube_ipvs_build_info 1";
        assert_eq!(look(ours, now), None);
        assert_eq!(look(ours, now + BELIEVED / 2), None);
        let other = look("process_open_fds 1", now + BELIEVED);
        assert_eq!(other.as_deref(), Some("ipvs"));
        assert_eq!(ourselves.get(), None);
        let twice = ["/proxyMode", "/metrics", "/proxyMode", "/metrics"];
        assert_eq!(asked, twice, "in between nobody is asked");
    }

    fn answered(path: &str, metrics: &str) -> String {
        let body = if path == "/metrics" { metrics } else { "ipvs" };
        body.to_owned()
    }

    /// It has let go of its lock, still answers, and a kube-proxy begins in its place.
    #[test]
    fn one_of_ours_that_ends_is_not_believed_any_more() {
        let (ourselves, now) = (Ourselves::default(), Instant::now());
        let look = |metrics: &str, runs| {
            let ask = |path: &str| Some(answered(path, metrics));
            other_mode(ask, runs, &ourselves, now)
        };
        let ours = "kube_ipvs_build_info 1";

        assert_eq!(look(ours, true), None);
        assert_eq!(look(ours, false), None, "it ends, and is no kube-proxy yet");
        let other = look("process_open_fds 1", false);
        assert_eq!(other.as_deref(), Some("ipvs"));
        // Neither is who answered while it ended, when the next of ours has begun.
        assert_eq!(look(ours, false), None);
        let other = look("process_open_fds 1", true);
        assert_eq!(other.as_deref(), Some("ipvs"));
    }

    /// A great many series are not read to their end.
    #[test]
    fn an_answer_that_is_cut_within_a_letter_is_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let head = "HTTP/1.0 200 OK\r\n\r\n";
        let odd = if head.len().is_multiple_of(2) {
            "-"
        } else {
            ""
        };
        let body = format!("{head}{odd}{}", "\u{e9}".repeat(1 << 19));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            // What is not read when it is closed would cut the answer.
            let mut question = std::io::BufReader::new(&stream).lines();
            question.find(|line| line.as_ref().is_ok_and(String::is_empty));
            // The other side reads no more from some point on.
            let _ = stream.write_all(body.as_bytes());
        });

        let answer = get(address, "/metrics").expect("an answer");

        assert!(answer.contains('\u{e9}'));
        server.join().expect("it ended");
    }

    #[test]
    fn a_port_without_a_listener_is_silence() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        drop(listener);

        assert_eq!(get(address, "/proxyMode"), None);
    }
}

//! Programs of others that serve Services too, or keep virtual servers of their
//! own beside ours.
//!
//! Known by their process, where this PID namespace shows it, or by the link that
//! they make.

use super::finding::Finding;
use super::host::Host;

/// One of them, and how it is known.
struct Neighbour {
    name: &'static str,
    /// What its process is called.
    process: &'static str,
    /// Links that it makes when it serves Services, or may.
    links: &'static [&'static str],
    /// What it means where such a link is, or where it has none to make.
    meaning: Meaning,
}

/// What it means that one is here.
enum Meaning {
    /// It serves the same Services.
    Serves(&'static str),
    /// It does so when it is told to.
    May(&'static str),
    /// Its virtual servers are left alone.
    Beside,
}

const NEIGHBOURS: [Neighbour; 5] = [
    Neighbour {
        name: "Calico's eBPF dataplane",
        process: "",
        links: &["bpfin.cali", "bpfout.cali"],
        meaning: Meaning::Serves("set bpfEnabled to false in Calico's FelixConfiguration"),
    },
    Neighbour {
        name: "kube-router's Service proxy",
        process: "",
        links: &["kube-dummy-if"],
        meaning: Meaning::Serves(
            "run kube-router with --run-service-proxy=false, and --cleanup-config once",
        ),
    },
    Neighbour {
        name: "Cilium",
        process: "cilium-agent",
        links: &["cilium_host"],
        meaning: Meaning::May("see that its kubeProxyReplacement is false"),
    },
    Neighbour {
        name: "keepalived",
        process: "keepalived",
        links: &[],
        meaning: Meaning::Beside,
    },
    Neighbour {
        name: "kube-vip",
        process: "kube-vip",
        links: &[],
        meaning: Meaning::Beside,
    },
];

/// A finding for each that is here.
pub(super) fn check(host: &Host) -> Vec<Finding> {
    let links = links(host);
    let processes = host.processes();
    let all = NEIGHBOURS.iter();
    all.filter_map(|neighbour| judge(neighbour, &links, &processes))
        .collect()
}

fn judge(of: &Neighbour, links: &[String], processes: &[String]) -> Option<Finding> {
    let link = of
        .links
        .iter()
        .find(|link| links.iter().any(|is| is == *link));
    let sign = match link {
        Some(link) => format!("its link {link} is here"),
        None if processes.iter().any(|is| is == of.process) => "it runs".to_owned(),
        None => return None,
    };
    let name = "neighbour";
    let seen = format!("{}: {sign}", of.name);
    Some(match of.meaning {
        Meaning::Serves(remedy) => {
            let what = format!("{seen}; it serves the same Services before IPVS sees them");
            Finding::fail(name, what, remedy)
        }
        Meaning::May(remedy) => {
            let what = format!("{seen}; it may serve the same Services before IPVS sees them");
            Finding::warn(name, what, remedy)
        }
        Meaning::Beside => {
            let what = format!("{seen}; virtual servers that it makes are left alone");
            Finding::ok(name, what)
        }
    })
}

/// Names of the links in this thread's network namespace.
fn links(host: &Host) -> Vec<String> {
    let table = host.read("/proc/thread-self/net/dev").unwrap_or_default();
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, _)| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    fn with_links(links: &[&str]) -> String {
        let lines: String = links
            .iter()
            .map(|link| format!("{link:>6}: 0 0\n"))
            .collect();
        format!("Inter-|   Receive\n face |bytes\n    lo: 0 0\n{lines}")
    }

    fn found(links: &[&str], processes: &[&str]) -> Vec<(Verdict, String)> {
        let made = host(&[("/proc/thread-self/net/dev", &with_links(links))]);
        for (pid, process) in processes.iter().enumerate() {
            made.write(&format!("/proc/{}/comm", pid + 1), process);
        }
        let all = check(&made.host).into_iter();
        all.map(|finding| (finding.verdict, finding.detail))
            .collect()
    }

    #[test]
    fn each_neighbour_is_named_with_what_it_means() {
        assert_eq!(found(&["eth0"], &["systemd"]), []);
        for (links, processes, verdict, name) in [
            (
                &["bpfin.cali"][..],
                &[][..],
                Verdict::Fail,
                "Calico's eBPF dataplane: ",
            ),
            (
                &["kube-dummy-if"],
                &[],
                Verdict::Fail,
                "kube-router's Service proxy: ",
            ),
            (
                &["cilium_host"],
                &[],
                Verdict::Warn,
                "Cilium: its link cilium_host is here",
            ),
            (&[], &["cilium-agent"], Verdict::Warn, "Cilium: it runs"),
            (&[], &["keepalived"], Verdict::Ok, "keepalived: it runs"),
            (&[], &["kube-vip"], Verdict::Ok, "kube-vip: it runs"),
        ] {
            let found = found(links, processes);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, verdict, "{found:?}");
            assert!(found[0].1.starts_with(name), "{found:?}");
        }
    }

    /// kube-router that only routes, or filters, makes no such link.
    #[test]
    fn a_kube_router_that_is_no_service_proxy_is_none() {
        assert_eq!(found(&["kube-bridge"], &["kube-router"]), []);
    }
}

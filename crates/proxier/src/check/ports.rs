//! Node ports that the host has another use for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use kube_ipvs_core::state::Protocol;
use kube_ipvs_dataplane::listeners::{LISTS, each};

use super::finding::Finding;
use super::host::Host;
use super::local_ports::NODE_PORTS;

pub(super) fn check(host: &Host) -> Finding {
    let ours = sockets_of(host, "kube-ipvs");
    let mut taken = BTreeSet::new();
    for (protocol, list) in LISTS {
        let path = host.path(&format!("/proc/thread-self/net/{list}"));
        let Ok(file) = File::open(path) else {
            continue;
        };
        // What was read until an error counts.
        _ = each(BufReader::new(file), protocol, |address, port, inode| {
            // NodePorts are not served there by IPVS.
            let is_near = address.is_loopback();
            if NODE_PORTS.contains(&port) && !is_near && !ours.contains(inode) {
                taken.insert((port, protocol));
            }
        });
    }
    listened(&taken)
}

/// Ports on which the host itself listens.
fn listened(taken: &BTreeSet<(u16, Protocol)>) -> Finding {
    const NAME: &str = "node ports";
    let (low, high) = NODE_PORTS.into_inner();
    if taken.is_empty() {
        return Finding::ok(NAME, format!("the host listens on none of {low}-{high}"));
    }
    let words: Vec<String> = taken
        .iter()
        .map(|(port, of)| format!("{port}/{of}"))
        .collect();
    let ports: BTreeSet<String> = taken.iter().map(|(port, _)| port.to_string()).collect();
    let ports = Vec::from_iter(ports).join(",");
    Finding::warn(
        NAME,
        format!(
            "the host listens on {}: a Service that gets the port takes it from the host",
            words.join(", ")
        ),
        format!("let it listen elsewhere, or run with --nodeport-reserved-ports={ports}"),
    )
}

/// Inodes of the sockets of programs with this name, of those that can be seen.
fn sockets_of(host: &Host, program: &str) -> BTreeSet<String> {
    let mut inodes = BTreeSet::new();
    for pid in host.pids() {
        let comm = host.read(&format!("/proc/{pid}/comm"));
        if comm.is_ok_and(|comm| comm == program) {
            let folder = format!("/proc/{pid}/fd");
            let files = host.names(&folder).into_iter();
            let links = files.filter_map(|file| {
                let link = std::fs::read_link(host.path(&format!("{folder}/{file}"))).ok()?;
                let name = link.to_str()?.strip_prefix("socket:[")?;
                Some(name.strip_suffix(']')?.to_owned())
            });
            inodes.extend(links);
        }
    }
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::check::host::testing::host;

    /// 30080 and 30081 for all, 30082 and 30084 on loopback, 22, and a connection.
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:7580 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1
   1: 00000000:7581 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1
   2: 0100007F:7582 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1
   3: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1
   4: 3500007F:7584 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 106 1
   5: 0A00000A:7583 0A00000B:1234 01 00000000:00000000 00:00000000 00000000     0        0 105 1
";

    #[test]
    fn ports_that_the_host_listens_on_are_named_and_ours_are_not() {
        let made = host(&[
            ("/proc/thread-self/net/tcp", TCP),
            ("/proc/7/comm", "kube-ipvs\n"),
            ("/proc/7/fd/1", ""),
        ]);
        let link = made.host.path("/proc/7/fd/9");
        std::os::unix::fs::symlink("socket:[102]", link).expect("a link");

        let finding = check(&made.host);

        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(
            finding
                .detail
                .starts_with("the host listens on 30080/TCP: "),
            "{finding:?}"
        );
        assert!(
            finding.remedy.ends_with("--nodeport-reserved-ports=30080"),
            "{finding:?}"
        );
        assert_eq!(check(&host(&[]).host).verdict, Verdict::Ok);
    }
}

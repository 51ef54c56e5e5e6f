//! The running program starts no other.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kube_ipvs_tests::{Protocol, Verdict, run, wait_until};

use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// Whatever could be of use to a Service proxy.
const PROGRAMS: [&str; 20] = [
    "nft",
    "iptables",
    "iptables-nft",
    "iptables-legacy",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-nft",
    "ip6tables-legacy",
    "ip6tables-save",
    "ip6tables-restore",
    "ipset",
    "ipvsadm",
    "conntrack",
    "ip",
    "modprobe",
    "sysctl",
    "hostname",
    "uname",
    "sh",
];

/// Programs that say in the file `started` that somebody ran them.
pub(crate) fn traps(folder: &Path) {
    let text = format!("#!/bin/sh\necho $0 $* >>{}/started\n", folder.display());
    for name in PROGRAMS {
        let program = folder.join(name);
        fs::write(&program, &text).expect("write a program");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("let it run");
    }
}

/// Processor time of a process so far, in ticks (`utime` and `stime` of
/// proc_pid_stat(5)).
pub(crate) fn processor_ticks(pid: nix::unistd::Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, after) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    ticks(14) + ticks(15)
}

/// What a process knows of children that ended: page faults and processor time
/// (`cminflt`, `cmajflt`, `cutime`, `cstime` of proc_pid_stat(5)). Nobody runs
/// without a page fault.
pub(crate) fn ended_children(pid: nix::unistd::Pid) -> [u64; 4] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, after) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The first behind the name is the third of all.
    [11, 13, 16, 17].map(|field| fields[field - 3].parse().expect("a number"))
}

/// Children that did not end, or that nobody asked about.
pub(crate) fn children(pid: nix::unistd::Pid) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
    // A thread may end meanwhile.
    threads
        .flatten()
        .filter_map(|thread| of(thread).ok())
        .collect()
}

#[test]
fn the_daemon_starts_no_program() {
    let folder = tempfile::tempdir().expect("a folder");
    traps(folder.path());
    let mut site = Site::new();
    let _servers = [0, 1].map(|n| site.small.pods[n].serve(Protocol::Tcp, 8080));
    site.node().sh("nft 'table inet fw { chain input { type filter hook input priority 0; policy drop; iif lo accept; }; chain forward { type filter hook forward priority 0; policy drop; }; }'");
    site.write(&Web::over(&site.small.pods[..1]));
    let flags = [&QUICK[..], &["--accept-in-foreign-chains"]].concat();
    site.start_in(&flags, |command| {
        command.env("KUBE_IPVS_TEST_PATH", folder.path());
    });
    site.wait_for_vip("10.96.0.10");
    let pid = site.daemon().pid();
    let before = ended_children(pid);

    let call = || site.outside().call(Protocol::Tcp, WEB);
    wait_until("the firewall is opened", PATIENCE, || {
        matches!(call(), Verdict::Answered { .. })
    });
    site.write(&Web::over(&site.small.pods));
    let other = Web::new("other", &["10.96.0.77"]).port(Protocol::Tcp, 80, 8080);
    site.write(&other.endpoint(site.small.pods[0].v4));
    site.wait_for_vip("10.96.0.77");
    site.node().sh("nft delete table ip kube-ipvs");
    wait_until("the table is made again", PATIENCE, || {
        let list = || run("nft", ["list", "tables"]);
        site.node().run(list).contains("table ip kube-ipvs")
    });

    assert_eq!(fs::read_to_string(folder.path().join("started")).ok(), None);
    assert_eq!(children(pid), "");
    assert_eq!(ended_children(pid), before);
}

//! What kube-proxy left in netfilter goes without a program, and nothing of others.

use std::fs;

use kube_ipvs::adopt::{BY_HAND, Leftovers, remove_leftovers};
use kube_ipvs_tests::{Daemon, Namespace, kube_ipvs, kube_proxy};

use super::{Calls, Lab, SOON, V4, V6, all_answer};
use crate::daemon::alone::{children, ended_children, traps};

/// As its nftables mode has them.
const TABLES: &str = "
for family in ip ip6; do nft -f - <<END
table $family kube-proxy {
  set cluster-ips { type inet_service; elements = { 80 }; }
  chain nothing { drop; }
  chain service { tcp dport 80 counter; goto nothing; }
  map service-ips { type inet_proto . inet_service : verdict; elements = { tcp . 9 : goto service }; }
  chain services { meta l4proto . th dport vmap @service-ips; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
}
END
done
";

/// A chain of each kind that a Service has in iptables mode.
const IPTABLES_MODE: &str = "
iptables-nft -t nat -N KUBE-SVC-ERIFXISQEP7F7OF4
iptables-nft -t nat -N KUBE-SEP-E2HHSDTNP5ZQWEQH
iptables-nft -t nat -A KUBE-SERVICES -d 10.96.0.77 -p tcp --dport 80 -j KUBE-SVC-ERIFXISQEP7F7OF4
iptables-nft -t nat -A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-SEP-E2HHSDTNP5ZQWEQH
iptables-nft -t nat -A KUBE-SEP-E2HHSDTNP5ZQWEQH -p tcp -j DNAT --to-destination 10.244.1.7:8080
iptables-nft -t mangle -N KUBE-PROXY-CANARY
";

/// All rules and sets, without counters.
fn rules(node: &Namespace) -> String {
    node.sh("iptables-nft-save; ip6tables-nft-save; ipset list -n")
        .lines()
        .filter(|line| !line.starts_with(['#', ':']))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn chains_tables_and_sets_go_and_no_program_is_started() {
    let folder = tempfile::tempdir().expect("a folder");
    traps(folder.path());
    let lab = Lab::new();
    lab.kube_proxy.sync();
    for more in [kube_proxy::FOREIGN, TABLES, IPTABLES_MODE] {
        lab.node().sh(more);
    }
    let mut connections = lab.connections();
    all_answer(&mut connections);
    let calls = [V4, V6].map(|front| Calls::start(&lab.small.outside.namespace, front));

    let mut command = kube_ipvs(lab.node(), lab.manifests.run(&["--adopt-kube-proxy"]));
    command.env("KUBE_IPVS_TEST_PATH", folder.path());
    let mut daemon = Daemon::spawn(&mut command);
    daemon.wait_for_log("taken over from kube-proxy", SOON);
    let before = ended_children(daemon.pid());
    daemon.wait_for_log("chains and sets of kube-proxy removed", SOON);

    let started = folder.path().join("started");
    assert_eq!(fs::read_to_string(started).ok(), None);
    assert_eq!(children(daemon.pid()), "");
    assert_eq!(ended_children(daemon.pid()), before);
    all_answer(&mut connections);
    calls.into_iter().for_each(Calls::finish);
    let log = daemon.log();
    assert!(!log.contains("leftovers of kube-proxy"), "{log}");
    assert_eq!(lab.kube_proxy.leftovers(), Vec::<String>::new());
    let tables = lab.node().sh("nft list tables");
    assert!(!tables.contains("kube-proxy"), "{tables}");
    let left = rules(lab.node());
    for kept in ["-A MINE", "-A PREROUTING", "-A INPUT -j KUBE-FIREWALL"] {
        assert!(left.contains(kept), "{kept} in {left}");
    }
    assert_eq!(lab.node().sh("ipset list -n"), "stranger\n");
}

/// What the warning and the guide tell to run on the node.
#[test]
fn the_script_for_the_node_removes_legacy_chains() {
    let mut lab = Lab::new();
    lab.kube_proxy = lab.kube_proxy.legacy();
    lab.kube_proxy.sync();
    assert_ne!(lab.kube_proxy.leftovers(), Vec::<String>::new());

    // A chain that is not there is no end of it; a script that waits for itself is.
    let script = format!("timeout 300 sh -s <<'END'\n{BY_HAND}\nEND\n");
    lab.node().sh(&script);

    assert_eq!(lab.kube_proxy.leftovers(), Vec::<String>::new());
}

/// In the image there is no program at all.
#[test]
fn legacy_chains_without_their_program_are_named_and_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::new();
    lab.kube_proxy = lab.kube_proxy.legacy();
    lab.kube_proxy.sync();
    let mut connections = lab.connections();
    all_answer(&mut connections);

    let mut command = kube_ipvs(lab.node(), lab.manifests.run(&["--adopt-kube-proxy"]));
    command.env("KUBE_IPVS_TEST_PATH", folder.path());
    let mut daemon = Daemon::spawn(&mut command);
    daemon.wait_for_log("run this on the node", SOON);

    all_answer(&mut connections);
    all_answer(&mut lab.connections());
    let log = daemon.log();
    for said in [
        "and there is no iptables-legacy here",
        "and there is no ip6tables-legacy here",
        "destroy ipset KUBE-CLUSTER-IP: a rule that stays names it",
    ] {
        assert!(log.contains(said), "{said} in {log}");
    }
    let chains = lab.node().sh("iptables-legacy-save");
    assert!(chains.contains("-j KUBE-SERVICES"), "{chains}");
}

#[test]
fn chains_and_sets_that_others_use_stay_and_are_named() {
    let node = Namespace::enter();
    node.sh("ipset create KUBE-CLUSTER-IP hash:ip,port
         ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
         ipset create stranger hash:ip
         for chain in MINE KUBE-SERVICES KUBE-MARK-MASQ; do iptables-nft -t nat -N $chain; done
         iptables-nft -t nat -A MINE -s 192.0.2.1 -g KUBE-MARK-MASQ
         iptables-nft -t nat -A MINE -m set --match-set KUBE-CLUSTER-IP src,dst -j RETURN
         iptables-nft -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
         iptables-nft -t nat -A PREROUTING -s 192.0.2.2 -j MINE
         iptables-nft -t nat -A PREROUTING -j KUBE-SERVICES
         iptables-nft -t nat -A KUBE-SERVICES -j KUBE-MARK-MASQ
         for chain in KUBE-FORWARD KUBE-NODE-PORT; do ip6tables-nft -N $chain; done
         ip6tables-nft -A FORWARD -j KUBE-FORWARD
         ip6tables-nft -A FORWARD -j KUBE-NODE-PORT
         nft add rule ip6 filter FORWARD tcp dport vmap '{ 7 : jump KUBE-NODE-PORT }'");
    node.sh(IPTABLES_MODE);
    let mine = |rules: String| -> Vec<String> {
        let lines = rules.lines().filter(|line| line.contains("MINE"));
        lines.map(str::to_owned).collect()
    };
    let before = mine(node.sh("iptables-nft-save -t nat"));

    let report = remove_leftovers();

    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let expected = Leftovers {
        chains: owned(&[
            "nft ip mangle KUBE-PROXY-CANARY",
            "nft ip nat KUBE-SEP-E2HHSDTNP5ZQWEQH",
            "nft ip nat KUBE-SERVICES",
            "nft ip nat KUBE-SVC-ERIFXISQEP7F7OF4",
            "nft ip6 filter KUBE-FORWARD",
        ]),
        tables: owned(&[]),
        sets: owned(&["KUBE-NODE-PORT-TCP"]),
        kept: owned(&["nft ip nat KUBE-MARK-MASQ", "nft ip6 filter KUBE-NODE-PORT"]),
        failed: owned(&["destroy ipset KUBE-CLUSTER-IP: a rule that stays names it"]),
        unseen: owned(&[]),
    };
    assert_eq!(report, expected);
    let after = node.sh("iptables-nft-save -t nat");
    assert!(after.contains("-A KUBE-MARK-MASQ"), "{after}");
    assert_eq!(mine(after), before);
    let forward = node.sh("nft list chain ip6 filter FORWARD");
    assert!(forward.contains("7 : jump KUBE-NODE-PORT"), "{forward}");
    assert!(!forward.contains("KUBE-FORWARD"), "{forward}");
}

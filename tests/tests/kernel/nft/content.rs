//! What is written is what is read, in every way it can be written.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kube_ipvs_nft::{
    Class, Commands, Config, Elements, Family, LocalPods, NftError, Observed, Set, TableChange,
    render_change, render_table,
};

use super::lab::{Fate, Lab, Netns, elements, nft};

fn read(netns: &Netns, family: Family) -> Option<Observed> {
    netns.run(|| nft().read(family)).expect("readable")
}

fn apply(netns: &Netns, commands: &Commands) -> Result<(), NftError> {
    netns.run(|| nft().apply(commands))
}

fn configs() -> Vec<Config> {
    let pods = [
        LocalPods::None,
        LocalPods::Cidrs(
            [
                "10.244.0.0/16",
                "10.244.1.0/24",
                "192.168.0.0/17",
                // Its neighbour: one interval ends where the other begins.
                "192.168.128.0/18",
                "fd00:244::/64",
            ]
            .map(|net| net.parse().expect("a network"))
            .into(),
        ),
        LocalPods::InterfacePrefix("veth".into()),
        LocalPods::Bridge("cbr0!#%&'()+,-.<=>".chars().take(15).collect()),
    ];
    let each = |family| {
        pods.clone().map(|local_pods| Config {
            local_pods,
            ..Config::new(family)
        })
    };
    let mut configs: Vec<Config> = Family::ALL.into_iter().flat_map(each).collect();
    configs.extend(Family::ALL.map(untracking));
    configs.push(Config {
        masquerade_bit: 31,
        accept_bit: Some(0),
        node_ports: 0..=u16::MAX,
        ..Config::new(Family::Ip)
    });
    configs
}

/// With the sets and hooks of what is not tracked.
fn untracking(family: Family) -> Config {
    Config {
        untracked: true,
        ..Config::new(family)
    }
}

/// Something in every set that the table has.
fn full(config: &Config) -> Elements {
    let family = config.family;
    let (vip, net, pod) = match family {
        Family::Ip => ("10.96.0.10", "192.0.2.0/24", "10.244.1.2"),
        Family::Ip6 => ("fd00:96::a", "2001:db8::/33", "::ffff:10.244.1.2"),
    };
    let everything = if family == Family::Ip {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    let front = |protocol: &str| format!("{vip} . {protocol} . 53");
    let mut all = elements([
        (Set::Vips, vip.into()),
        (Set::InsideMarks, format!("{} : 0x00000123", front("tcp"))),
        (Set::InsideMarks, format!("{} : 0xffff2fff", front("udp"))),
        (Set::NodePortMarks, format!("{} : 0x00004456", front("tcp"))),
        (Set::Hairpin, pod.into()),
        (Set::AllowedSources, format!("{} . {net}", front("tcp"))),
        (
            Set::AllowedSources,
            format!("{} . {everything}", front("udp")),
        ),
        (
            Set::AllowedSources,
            format!("{vip} . tcp . 54-65535 . {net}"),
        ),
        (
            Set::AllowedSources,
            format!("{vip} . sctp . 64-127 . {net}"),
        ),
        (Set::ServiceCidrs, net.into()),
        (Set::ServiceCidrs, format!("{vip}/{}", host_prefix(family))),
    ]);
    // As many of each class as there are protocols.
    for (port, class) in (60..).zip(Class::all().filter(|class| *class != Class::default())) {
        let texts = ["tcp", "udp", "sctp"].map(|p| format!("{vip} . {p} . {port} : goto {class}"));
        all.entry(Set::Fronts).or_default().extend(texts);
    }
    for set in [Set::Served, Set::ServedOffCluster] {
        all.insert(set, ["tcp", "udp", "sctp"].map(front).into());
    }
    if config.untracked {
        let endpoint = |protocol: &str| format!("{pod} . {protocol} . 8053");
        all.insert(Set::UntrackedFronts, ["tcp", "udp"].map(front).into());
        all.insert(Set::UntrackedEndpoints, ["tcp", "udp"].map(endpoint).into());
        all.insert(Set::UntrackedOwn, [pod.to_owned()].into());
    }
    let is_untracked = |set: &Set| {
        let untracked = [
            Set::UntrackedFronts,
            Set::UntrackedEndpoints,
            Set::UntrackedOwn,
        ];
        untracked.contains(set)
    };
    let mut wanted = Set::ALL
        .iter()
        .filter(|set| config.untracked || !is_untracked(set));
    assert!(wanted.all(|set| all.contains_key(set)));
    all
}

fn host_prefix(family: Family) -> u8 {
    if family == Family::Ip { 32 } else { 128 }
}

#[test]
fn a_table_is_read_back_as_it_was_written() {
    for config in configs() {
        let netns = Netns::new();
        let written = full(&config);
        let written = match config.accept_bit {
            // The marks above contain bit 0.
            Some(_) => written
                .into_iter()
                .filter(|(set, _)| *set != Set::InsideMarks)
                .collect(),
            None => written,
        };
        assert_eq!(read(&netns, config.family), None);

        apply(&netns, &render_table(&config, &written).expect("valid")).expect("applied");

        let observed = read(&netns, config.family).expect("a table");
        assert_eq!(observed.elements, written);
        assert_eq!(observed.strange, Vec::<String>::new());
        assert_eq!(observed.is_intact(&config), Ok(true), "{config:?}");
        assert_eq!(observed.fingerprint, config.fingerprint().ok());
    }
}

#[test]
fn a_deleted_table_is_gone_and_may_be_deleted_again() {
    let netns = Netns::new();
    let config = Config::new(Family::Ip);
    apply(
        &netns,
        &render_table(&config, &full(&config)).expect("valid"),
    )
    .expect("applied");

    for _ in 0..2 {
        netns
            .run(|| nft().delete_table(Family::Ip))
            .expect("deleted");
    }

    assert_eq!(read(&netns, Family::Ip), None);
}

/// States in which every set gains, loses and keeps; marks change, are shared and let go.
fn states(config: &Config) -> Vec<Elements> {
    let front = |n: u8| format!("10.96.0.{n} . tcp . 80");
    let marks = |pairs: &[(u8, u32)]| {
        let texts = pairs
            .iter()
            .map(|(n, mark)| format!("{} : {mark:#010x}", front(*n)));
        Elements::from([(Set::InsideMarks, texts.collect())])
    };
    let sources = |nets: &[&str]| {
        let texts = nets.iter().map(|net| format!("{} . {net}", front(1)));
        Elements::from([(Set::AllowedSources, texts.collect())])
    };
    vec![
        Elements::new(),
        full(config),
        marks(&[(1, 7), (2, 7), (3, 8)]),
        marks(&[(1, 9), (2, 7)]),
        marks(&[(1, 7), (2, 9)]),
        marks(&[(2, 9)]),
        sources(&["10.1.0.0/16", "10.2.0.0/16", "192.0.2.7/32"]),
        sources(&["10.0.0.0/8", "192.0.2.6/31"]),
        sources(&["10.128.0.0/9", "10.1.2.3/32"]),
        sources(&["0.0.0.0/0"]),
        full(config),
        Elements::new(),
    ]
}

#[test]
fn changes_lead_where_the_whole_table_would() {
    // A chain that comes with the first mark brings its own set of networks.
    let several = configs().into_iter().find(|config| {
        config.family == Family::Ip && matches!(config.local_pods, LocalPods::Cidrs(_))
    });
    let several = several.expect("pods by networks");
    for config in [Config::new(Family::Ip), several, untracking(Family::Ip)] {
        lead_where_the_whole_table_would(&config);
    }
}

fn lead_where_the_whole_table_would(config: &Config) {
    let netns = Netns::new();
    let mut before = Elements::new();
    apply(&netns, &render_table(config, &before).expect("valid")).expect("applied");

    for after in states(config) {
        let in_use = |mark: u32| {
            let maps = [Set::InsideMarks, Set::NodePortMarks].into_iter();
            let texts = maps.filter_map(|map| after.get(&map)).flatten();
            texts
                .into_iter()
                .any(|text| text.ends_with(&format!("{mark:#010x}")))
        };
        let change = TableChange::between(&before, &after);
        apply(
            &netns,
            &render_change(config, &change, in_use).expect("valid"),
        )
        .expect("applied");

        let observed = read(&netns, Family::Ip).expect("a table");
        assert_eq!(observed.elements, after);
        assert_eq!(
            observed.is_intact(config),
            Ok(true),
            "{:?}",
            observed.strange
        );
        before = after;
    }
}

#[test]
fn a_refused_change_names_the_element_and_changes_nothing() {
    let netns = Netns::new();
    let config = Config::new(Family::Ip);
    let written = full(&config);
    apply(&netns, &render_table(&config, &written).expect("valid")).expect("applied");
    let change = |removed, added| {
        let change = TableChange {
            removed,
            added,
            marking: None,
        };
        let commands = render_change(&config, &change, |_| false).expect("valid");
        apply(&netns, &commands)
    };
    let vips = |list: [&str; 2]| elements(list.map(|vip| (Set::Vips, vip.to_owned())));

    let error = change(
        vips(["10.96.0.10", "10.96.0.99"]),
        vips(["10.96.1.1", "10.96.1.2"]),
    )
    .expect_err("refused");

    assert!(error.is_stale(), "{error}");
    assert!(
        error
            .to_string()
            .contains("at `delete element 10.96.0.99 of set vips`"),
        "{error}"
    );
    assert_eq!(read(&netns, Family::Ip).expect("a table").elements, written);
    // Linux 6.1 lets one of these pass, 6.18 none: who refuses must name the element.
    let clashes = [
        (
            Set::AllowedSources,
            "10.96.0.10 . tcp . 53 . 192.0.2.128/25",
            "add element 10.96.0.10 . tcp . 53 . 192.0.2.128/25 of set allowed-sources",
        ),
        (
            Set::InsideMarks,
            "10.96.0.10 . tcp . 53 : 0x00000124",
            "add element 10.96.0.10 . tcp . 53 : 0x00000124 of set inside-marks",
        ),
    ];
    for (set, text, named) in clashes {
        match change(Elements::new(), elements([(set, text.to_owned())])) {
            Ok(()) => eprintln!("this kernel takes {text} beside what is there"),
            Err(error) => {
                assert!(error.is_stale(), "{error}");
                assert!(
                    error.to_string().contains(&format!("at `{named}`")),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_foreign_hand_in_the_table_is_seen() {
    let config = Config::new(Family::Ip);
    for edit in [
        "flush chain ip kube-ipvs guard",
        // As many rules as before, but others.
        "flush chain ip kube-ipvs refuse; add rule ip kube-ipvs refuse drop; add rule ip kube-ipvs refuse drop",
        "chain ip kube-ipvs input { policy drop; }",
        "add rule ip kube-ipvs input accept",
        "add chain ip kube-ipvs other",
        "add set ip kube-ipvs other { type mark; }",
        "add element ip kube-ipvs mark-values { 5 }",
        "add element ip kube-ipvs served { 10.96.0.10 . icmp . 3 }",
        "add element ip kube-ipvs fronts { 10.96.0.10 . tcp . 3 : goto guard }",
        "add element ip kube-ipvs fronts { 10.96.0.10 . tcp . 3 : drop }",
        "add set ip kube-ipvs service-ports { type ipv4_addr . inet_proto . inet_service; }",
        "flush chain ip kube-ipvs before-ipvs",
        "flush chain ip kube-ipvs served-off-cluster",
        // The same rules, and another set in one of them.
        "flush chain ip kube-ipvs guard; \
         add rule ip kube-ipvs guard icmp type { 3, 8, 11, 12, 13 } accept; \
         add rule ip kube-ipvs guard goto refuse",
        "rename chain ip kube-ipvs refuse refuse2",
    ] {
        let netns = Netns::new();
        apply(
            &netns,
            &render_table(&config, &full(&config)).expect("valid"),
        )
        .expect("applied");
        netns.nft(edit);

        let observed = read(&netns, Family::Ip).expect("a table");
        assert_eq!(observed.is_intact(&config), Ok(false), "{edit}");
    }
    let netns = Netns::new();
    apply(
        &netns,
        &render_table(&config, &full(&config)).expect("valid"),
    )
    .expect("applied");
    netns.nft("add element ip kube-ipvs vips { 10.9.9.9 }");
    netns.nft(
        "flush chain ip kube-ipvs guard; \
         add rule ip kube-ipvs guard icmp type { 12, 11, 8, 3 } accept; \
         add rule ip kube-ipvs guard goto refuse",
    );
    let observed = read(&netns, Family::Ip).expect("a table");
    assert_eq!(observed.is_intact(&config), Ok(true));
    assert!(observed.elements[&Set::Vips].contains("10.9.9.9"));
}

/// ipset stops at 65,536.
#[test]
fn seventy_thousand_elements_load_and_take_one_more() {
    let netns = Netns::new();
    let config = Config::new(Family::Ip);
    let front = |n: u32| format!("10.96.{}.{} . tcp . {}", n / 250 % 256, n % 250, 80 + n % 3);
    let fronts: BTreeSet<String> = (0..70_000).map(front).collect();
    assert_eq!(fronts.len(), 70_000);
    let mut written = Elements::from([(Set::Served, fronts)]);
    let timed = |what: &str, task: &dyn Fn()| {
        let start = Instant::now();
        task();
        eprintln!("70,000 elements: {what}: {:?}", start.elapsed());
    };

    let table = render_table(&config, &written).expect("valid");
    timed("render", &|| drop(render_table(&config, &written)));
    timed("load", &|| apply(&netns, &table).expect("applied"));
    let change = TableChange {
        added: elements([(Set::Served, "10.97.0.1 . udp . 53".into())]),
        ..TableChange::default()
    };
    let one = render_change(&config, &change, |_| false).expect("valid");
    timed("one more", &|| apply(&netns, &one).expect("applied"));
    timed("read", &|| drop(read(&netns, Family::Ip)));

    written
        .entry(Set::Served)
        .or_default()
        .extend(change.added[&Set::Served].clone());
    assert_eq!(read(&netns, Family::Ip).expect("a table").elements, written);
}

#[test]
fn replacing_the_table_leaves_no_moment_without_a_guard() {
    let lab = Lab::new(Family::Ip);
    let _host_port = lab.listen(22);
    let service = lab.listen(80);
    let content = elements([
        (Set::Vips, lab.vip().to_string()),
        (Set::Served, lab.front("tcp", 80)),
    ]);
    let tables = [14, 20].map(|masquerade_bit| {
        let config = Config {
            masquerade_bit,
            ..lab.config()
        };
        render_table(&config, &content).expect("valid")
    });
    lab.apply_commands(&tables[0]);
    let done = AtomicBool::new(false);

    let probes = std::thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let mut probes = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(
                    lab.peer.tcp(lab.vip(), 22),
                    Fate::Refused,
                    "after {probes} probes"
                );
                assert_eq!(
                    lab.peer.tcp(lab.vip(), 80),
                    Fate::Passed,
                    "after {probes} probes"
                );
                service.accept().expect("a connection to take");
                probes += 1;
            }
            probes
        });
        for round in 0..50 {
            lab.apply_commands(&tables[round % 2]);
        }
        done.store(true, Ordering::Relaxed);
        prober.join().expect("never open, never closed")
    });
    assert!(probes > 20, "only {probes} probes: nothing was shown");
}

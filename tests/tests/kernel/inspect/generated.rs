//! Tables by chance, each listed in every mode by both programs.
//!
//! A guest starts a program in a tenth of a second, so ipvsadm makes a table and
//! lists it in all modes in one run: `-R` reads any command. Ours is asked here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use ipvs_netlink::Client;
use kube_ipvs::inspect::{InspectArgs, Names, list, requests};
use kube_ipvs_tests::{Namespace, run_with_input};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const TABLES: usize = 500;
const SEED: u64 = 131;

/// Listings of a whole table.
const MODES: [&str; 20] = [
    "-L -n",
    "-L",
    "-L -n --stats",
    "-L --stats",
    "-L -n --rate",
    "-L --rate",
    "-L -n --thresholds",
    "-L --thresholds",
    "-L -n --persistent-conn",
    "-L --persistent-conn",
    "-L -n --tun-info",
    "-L --tun-info",
    "-L -n --nosort",
    "-L --nosort --stats -X",
    "-L -n --rate -X",
    "-L -n --stats --rate --thresholds --persistent-conn --tun-info",
    "-S -n",
    "-S",
    "-L -n -c",
    "-L --daemon",
];

/// Listings of one virtual server.
const OF_ONE: [&str; 6] = [
    "-L -n",
    "-L",
    "-L --stats",
    "-L -n --rate -X",
    "-L --thresholds",
    "-L -n --tun-info --nosort",
];

/// Printed between two listings.
const BETWEEN: &str = "Timeout (tcp tcpfin udp): 900 120 300\n";

const HOSTS: &str = "\
127.0.0.1 localhost
10.96.0.1 kubernetes.default.svc.cluster.local
10.96.0.10 dns
203.0.113.10 a-rather-long-name-of-an-outside-host.example.org
10.0.2.15 a-name-that-is-longer-than-the-buffer-of-ipvsadm.and-goes-on.example.org
10.244.0.2 pod-a
10.244.0.10 another-rather-long-name-of-a-pod.example.org
fd00:10:96::a six.example
fd00:10:244::2 a-pod-with-a-name-longer-than-its-column.example
";

const SERVICES: &str = "\
http 80/tcp www
https 443/tcp
domain 53/tcp
domain 53/udp
http-alt 8080/tcp
sctp-tunneling 9899/sctp
";

const FRONTS: [&str; 10] = [
    "10.96.0.1",
    "10.96.0.10",
    "10.96.255.1",
    "203.0.113.10",
    "10.0.2.15",
    "192.168.7.7",
    "fd00:10:96::a",
    "2001:db8::5",
    "::c000:201",
    "fd00:10:96:0:8000::1",
];
const BACKS_V4: [&str; 6] = [
    "10.244.0.2",
    "10.244.0.10",
    "10.244.7.1",
    "203.0.113.7",
    "192.0.2.9",
    "127.0.0.1",
];
const BACKS_V6: [&str; 5] = [
    "fd00:10:244::2",
    "fd00:10:244:1:2:3:4:5",
    "2001:db8::7",
    "2001:db8:8000::7",
    "fd00::8000:0:0:0",
];
const PORTS: [u16; 8] = [53, 80, 81, 443, 5060, 8080, 9899, 65535];
const SCHEDULERS: [&str; 8] = ["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "mh"];

struct Dice(StdRng);

impl Dice {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.0).expect("there is one")
    }

    fn often(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    /// A table as rules, and the fronts in it.
    fn table(&mut self) -> (String, Vec<String>) {
        let (mut rules, mut fronts) = (String::new(), BTreeSet::new());
        for _ in 0..self.0.random_range(1..=4) {
            let (front, family, kind) = self.front();
            if fronts.insert(front.clone()) {
                self.service(&mut rules, &front, family, kind);
                for _ in 0..self.0.random_range(0..=4) {
                    self.server(&mut rules, &front, family);
                }
            }
        }
        (rules, fronts.into_iter().collect())
    }

    /// `-t 10.96.0.1:80`, whether it is IPv6, and the option's letter.
    fn front(&mut self) -> (String, bool, char) {
        if self.often(20) {
            let mark: u32 = self.one(&[1, 7, 0x4000, 2_147_483_648, 3_000_000_000, u32::MAX]);
            let six = self.often(40);
            let six_switch = if six { " -6" } else { "" };
            return (format!("-f {mark}{six_switch}"), six, 'f');
        }
        let address = self.one(&FRONTS);
        let at = bracketed(address);
        let (switch, kind) = self.one(&[("-t", 't'), ("-u", 'u'), ("--sctp-service", 's')]);
        let port = self.one(&PORTS);
        (format!("{switch} {at}:{port}"), at.starts_with('['), kind)
    }

    fn service(&mut self, rules: &mut String, front: &str, six: bool, kind: char) {
        let scheduler = self.one(&SCHEDULERS);
        _ = write!(rules, "-A {front} -s {scheduler}");
        if self.often(40) {
            let seconds = self.one(&[1, 300, 10800, 2_678_400]);
            _ = write!(rules, " -p {seconds}");
        }
        if self.often(30) {
            let mask = if six {
                self.one(&["1", "64", "128"])
            } else {
                self.one(&["255.255.255.0", "255.255.255.255", "255.0.0.0"])
            };
            _ = write!(rules, " -M {mask}");
        }
        if matches!(kind, 'u' | 'f') && self.often(30) {
            *rules += " -o";
        }
        if self.often(40) {
            let names: &[&str] = match scheduler {
                "sh" => &["sh-port", "sh-fallback", "sh-port,sh-fallback", "flag-3"],
                "mh" => &["mh-port", "mh-fallback", "flag-3,mh-port", "flag-3"],
                _ => &["flag-1", "flag-2,flag-3", "flag-1,flag-2,flag-3"],
            };
            _ = write!(rules, " -b {}", self.one(names));
        }
        *rules += "\n";
    }

    fn server(&mut self, rules: &mut String, front: &str, six: bool) {
        let tunnel = self.often(30);
        let six = six ^ (tunnel && self.often(30));
        let address = self.one(if six { &BACKS_V6[..] } else { &BACKS_V4[..] });
        let (at, port) = (bracketed(address), self.one(&PORTS));
        _ = write!(rules, "-a {front} -r {at}:{port}");
        if tunnel {
            *rules += " -i";
            *rules += self.one(&[
                "",
                " --tun-type ipip",
                " --tun-type gue --tun-port 6080",
                " --tun-type gue --tun-port 65535 --tun-remcsum",
                " --tun-type gue --tun-port 1 --tun-csum",
                " --tun-type gre --tun-nocsum",
                " --tun-type gre --tun-csum",
            ]);
        } else {
            *rules += self.one(&[" -m", " -m", " -g", ""]);
        }
        if self.often(60) {
            _ = write!(rules, " -w {}", self.one(&[0, 1, 100, 65535]));
        }
        if self.often(20) {
            let upper = self.one(&[5, 100, 2_147_483_647]);
            _ = write!(rules, " -x {upper} -y {}", self.one(&[0, 3]));
        }
        *rules += "\n";
    }
}

fn bracketed(address: &str) -> String {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// What both programs find in `/etc`, for this thread and what it starts.
fn own_etc() -> tempfile::TempDir {
    let etc = tempfile::tempdir().expect("make a directory");
    let write = |name, text| std::fs::write(etc.path().join(name), text).expect(name);
    write("hosts", HOSTS);
    write("services", SERVICES);
    write(
        "nsswitch.conf",
        "hosts: files\nservices: files\nprotocols: files\n",
    );
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, private, none).expect("keep mounts to ourselves");
    mount(Some(etc.path()), "/etc", none, MsFlags::MS_BIND, none).expect("mount over /etc");
    etc
}

/// The modes of a table, with our arguments for each.
fn modes(whole: &[InspectArgs], of_one: &[InspectArgs], front: &str) -> Vec<(String, InspectArgs)> {
    let words: Vec<_> = front.split(' ').collect();
    let mut modes: Vec<_> = MODES.iter().map(|mode| (*mode).to_owned()).collect();
    modes.extend(OF_ONE.iter().map(|mode| format!("{mode} {front}")));
    let one = of_one.iter().cloned().map(|mut args| {
        args.fwmark_service = None;
        match words[0] {
            "-t" => args.tcp_service = Some(words[1].to_owned()),
            "-u" => args.udp_service = Some(words[1].to_owned()),
            "-f" => args.fwmark_service = words[1].parse().ok(),
            _ => args.sctp_service = Some(words[1].to_owned()),
        }
        args.ipv6 = words.contains(&"-6");
        args
    });
    modes
        .into_iter()
        .zip(whole.iter().cloned().chain(one))
        .collect()
}

/// What ipvsadm prints in each mode for a table that it makes, and leaves.
fn theirs(rules: &str, modes: &[(String, InspectArgs)]) -> Vec<String> {
    let mut script = format!("-C\n{rules}");
    for (mode, _) in modes {
        _ = writeln!(script, "{mode}\n-L --timeout");
    }
    // Its exit code is that of the last line.
    let printed = run_with_input("ipvsadm", ["-R"], &script);
    let mut parts: Vec<_> = printed.split(BETWEEN).map(str::to_owned).collect();
    let rest = parts.pop();
    assert_eq!(rest.as_deref(), Some(""), "{script}");
    assert_eq!(parts.len(), modes.len(), "{script}");
    parts
}

/// Saved, flushed and restored by us, the table is the same; so it is when
/// ipvsadm restores what we saved.
fn round_trip(client: &mut Client, saving: &InspectArgs) {
    let names = Names::none();
    // Addresses half a circle apart come in the order of the kernel's lists, which
    // is another after a restore. A flag without a name is saved as an empty `-b`,
    // and nobody can tell which it was.
    let lines = |text: &str| {
        let lines = text.lines();
        let mut lines: Vec<_> = lines
            .map(|line| line.trim_end_matches(" -b ").to_owned())
            .collect();
        lines.sort();
        lines
    };
    let saved = list(saving, client, &names).expect("save");
    client.flush().expect("flush");
    let (_, rules) = requests(&saved, &names).expect(&saved);
    let refused = client.apply(&rules).expect("restore");
    assert!(refused.is_empty(), "{refused:?} of\n{saved}");
    let again = list(saving, client, &names).expect("save");
    assert_eq!(lines(&again), lines(&saved));
    // Of flags without a name, and of marks from 2^31, it reads not what it writes.
    if !saved.contains("-b \n") && !saved.contains("-f -") {
        run_with_input("ipvsadm", ["-R"], &format!("-C\n{saved}"));
        let again = list(saving, client, &names).expect("save");
        assert_eq!(lines(&again), lines(&saved));
    }
}

fn compare() {
    let _namespace = Namespace::enter();
    let _etc = own_etc();
    let seed = std::env::var("KUBE_IPVS_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    let mut dice = Dice(StdRng::seed_from_u64(seed));
    let mut client = Client::open().expect("open IPVS");
    let parse = |mode: &str| InspectArgs::of(mode.split(' ')).expect(mode);
    let whole: Vec<_> = MODES.iter().map(|mode| parse(mode)).collect();
    let of_one: Vec<_> = OF_ONE
        .iter()
        .map(|mode| parse(&format!("{mode} -f 1")))
        .collect();
    let (numbers, named) = (Names::none(), Names::of_this_host());
    let mut differences = Vec::new();
    for table in 0..TABLES {
        let (rules, fronts) = dice.table();
        let front = dice.one(&fronts.iter().map(String::as_str).collect::<Vec<_>>());
        let modes = modes(&whole, &of_one, front);
        let theirs = theirs(&rules, &modes);
        for ((mode, args), theirs) in modes.iter().zip(theirs) {
            let names = if args.numeric { &numbers } else { &named };
            let ours = list(args, &mut client, names).expect(mode);
            if ours != theirs {
                differences.push(format!(
                    "table {table}, {mode}\n--- rules\n{rules}--- ours\n{ours}--- ipvsadm's\n{theirs}"
                ));
            }
        }
        if table % 5 == 0 {
            round_trip(&mut client, &parse("-S -n"));
        }
    }
    let count = differences.len();
    let modes = MODES.len() + OF_ONE.len();
    // Not by a macro, whose words are kept from those who watch.
    _ = writeln!(
        std::io::stdout(),
        "inspect: {TABLES} tables x {modes} modes, {count} differences"
    );
    differences.truncate(3);
    assert_eq!(count, 0, "{}", differences.join("\n"));
}

#[test]
fn generated_tables_are_listed_alike_in_every_mode() {
    // A mount namespace is for good, so it is that of a thread which ends.
    let compared = std::thread::spawn(compare).join();
    if let Err(panic) = compared {
        std::panic::resume_unwind(panic);
    }
}

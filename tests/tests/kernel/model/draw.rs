//! Steps drawn by lot from a small world, so that they meet one another.

use std::net::IpAddr;

use kube_ipvs_core::plan::{Op, ServerSettings};
use kube_ipvs_core::row::{Masquerade, Row, Sources, Verdict};
use kube_ipvs_core::state::{
    Flags, Front, KernelState, Persistence, RealServer, RealServerKey, VirtualServerKey,
};
use kube_ipvs_core::table::{Edit, Moved, Turn};

const KEYS: [&str; 6] = [
    "10.96.0.10:80/TCP",
    "10.96.0.10:53/UDP",
    "10.96.0.11:9/SCTP",
    "[fd00:96::10]:80/TCP",
    "FWM 291",
    "FWM 291 IPv6",
];
const REALS_V4: [&str; 3] = ["10.244.1.2:8080", "10.244.1.3:8080", "10.244.1.3:8081"];
const REALS_V6: [&str; 2] = ["[fd00:244::2]:8080", "[fd00:244::3]:8080"];
const VIPS: [&str; 4] = ["10.96.0.10", "10.96.0.11", "10.96.0.12", "fd00:96::10"];
const SCHEDULERS: [&str; 5] = ["rr", "wlc", "sh", "mh", "lc"];

/// The lot. Its own generator, so that a seed means the same for ever (splitmix64).
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next step. Most are possible in `state`, some are not.
    pub(super) fn step(&mut self, state: &KernelState) -> Op {
        let key = parsed::<VirtualServerKey>(self.pick(&KEYS));
        let real = parsed::<RealServerKey>(match key.family() {
            kube_ipvs_core::state::Family::V4 => self.pick(&REALS_V4),
            kube_ipvs_core::state::Family::V6 => self.pick(&REALS_V6),
        });
        let server = state.virtual_servers.get(&key);
        let has_server = server.is_some();
        let has_real = server.is_some_and(|server| server.real_servers.contains_key(&real));
        // One in seven goes against what is there.
        let sensible = self.below(7) != 0;
        match self.below(10) {
            0..=1 if has_server != sensible => Op::AddVirtualServer(key, self.settings(&key)),
            0..=2 if self.below(4) == 0 => Op::RemoveVirtualServer(key),
            0..=2 => Op::EditVirtualServer(key, self.settings(&key)),
            3..=6 if has_real != sensible => Op::AddRealServer(key, real, self.real_server()),
            3..=5 => Op::EditRealServer(key, real, self.real_server()),
            6 => Op::RemoveRealServer(key, real),
            7 => {
                let vip = parsed::<IpAddr>(self.pick(&VIPS));
                if state.vips.contains(&vip) == sensible {
                    Op::UnbindVips([vip].into())
                } else {
                    Op::BindVips([vip].into())
                }
            }
            _ => self.transaction(state, sensible),
        }
    }

    /// Several changes of the table, each as it is; or one that somebody else
    /// seems to have made already.
    fn transaction(&mut self, state: &KernelState, sensible: bool) -> Op {
        let mut edit = Edit::default();
        let count = if sensible { 3 } else { 1 };
        for _ in 0..count {
            let vip = parsed::<IpAddr>(self.pick(&VIPS));
            let table = &state.table;
            match self.below(6) {
                0 => self.move_one(
                    &mut edit.guarded,
                    vip,
                    table.guarded.contains(&vip) == sensible,
                ),
                1 => self.move_one(
                    &mut edit.hairpin,
                    vip,
                    table.hairpin.contains(&vip) == sensible,
                ),
                _ => {
                    let (front, turn) = self.turn(state, sensible);
                    edit.rows.insert(front, turn);
                }
            }
        }
        Op::Table(edit.into())
    }

    fn move_one(&mut self, moved: &mut Moved<IpAddr>, one: IpAddr, there: bool) {
        let change = if there {
            &mut moved.remove
        } else {
            &mut moved.add
        };
        change.insert(one);
    }

    /// A row that becomes another one. Without sense, one that is as it is to be.
    fn turn(&mut self, state: &KernelState, sensible: bool) -> (Front, Turn) {
        let fronts: Vec<Front> = KEYS
            .iter()
            .filter_map(|key| match parsed(key) {
                VirtualServerKey::Front(front) => Some(front),
                VirtualServerKey::Mark { .. } => None,
            })
            .collect();
        // Ports beside each other, so that they share the networks they are open to.
        let mut front = fronts[self.below(fronts.len())];
        front.port += self.below(3) as u16;
        let now = state.row(&front).cloned();
        let to = match self.below(4) {
            0 => None,
            _ => self.row(&front).said(),
        };
        let turn = if sensible {
            Turn { from: now, to }
        } else if now.is_some() {
            Turn {
                from: None,
                to: now,
            }
        } else {
            Turn {
                from: Some(self.row(&front)),
                to: None,
            }
        };
        (front, turn)
    }

    fn row(&mut self, front: &Front) -> Row {
        let verdicts = [
            Verdict::Closed,
            Verdict::Serve,
            Verdict::DropOutside,
            Verdict::Refuse,
        ];
        let masquerades = [
            Masquerade::Never,
            Masquerade::OffCluster,
            Masquerade::Always,
        ];
        let nets = match front.address {
            IpAddr::V4(_) => ["192.0.2.0/24", "198.51.100.7/32"],
            IpAddr::V6(_) => ["2001:db8::/32", "fd00:9::1/128"],
        };
        let sources: Sources = nets[..self.below(3)].iter().copied().map(parsed).collect();
        let mark = 0x100 + self.below(3) as u32;
        Row {
            verdict: verdicts[self.below(4)],
            masquerade: masquerades[self.below(3)],
            sources: (self.below(3) == 0).then_some(sources),
            inside: (self.below(3) == 0).then_some(mark),
            mark: (self.below(4) == 0).then_some(mark),
        }
    }

    fn settings(&mut self, key: &VirtualServerKey) -> ServerSettings {
        let scheduler = self.pick(&SCHEDULERS);
        let hashes = matches!(scheduler, "sh" | "mh");
        let prefix = key.family().host_prefix();
        let persistence = (self.below(3) == 0).then(|| Persistence {
            timeout: 60 * (1 + self.below(3) as u32),
            prefix: [prefix, 24][self.below(2)],
        });
        ServerSettings {
            scheduler: scheduler.into(),
            flags: Flags {
                one_packet: self.below(4) == 0,
                fallback: hashes && self.below(2) == 0,
                port: hashes && self.below(2) == 0,
            },
            persistence,
        }
    }

    fn real_server(&mut self) -> RealServer {
        // 0 drains; the kernel takes any weight that is not negative as int.
        let weight = [0, 1, 1, 2, 100, 65_535][self.below(6)];
        let (upper_threshold, lower_threshold) =
            [(0, 0), (0, 0), (100, 50), (10, 0), (5, 9)][self.below(5)];
        RealServer {
            weight,
            upper_threshold,
            lower_threshold,
        }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        usize::try_from(mixed % bound as u64).expect("below a usize")
    }
}

fn parsed<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

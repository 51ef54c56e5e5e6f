//! The fixed part: chains and rules, decided by [`Config`] alone.

mod classes;
mod hooks;

pub(crate) use hooks::clear_bit;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_exchange::{Request, Writer};

use crate::commands::Commands;
use crate::phrase::{Phrase, Phrases, Side, from_link};
use crate::wire::Compare::{Equal, NotEqual};
use crate::wire::{Base, Command, Compare, Hooked, Place, rule};
use crate::{Config, Family, Invalid, LocalPods};

/// Prefix of the empty chain that carries the fingerprint.
pub(crate) const FINGERPRINT_CHAIN: &str = "fixed-";

/// The set of all values in the maps: how a mark of ours is told from another's.
pub(crate) const MARK_VALUES: &str = "mark-values";

/// The chains, and their name.
pub(crate) struct Fixed {
    /// Those that are there in any case.
    chains: Vec<Chain>,
    /// The one that is there while a front has a mark.
    marking: Option<Chain>,
    pub(crate) fingerprint: String,
}

/// A chain and its rules.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Phrase>,
}

impl Fixed {
    pub(crate) fn new(config: &Config) -> Result<Self, Invalid> {
        config.check()?;
        let words = Words::new(config);
        let mut chains = hooks::chains(config, &words);
        chains.extend(classes::chains(config, &words));
        let mut marking = Some(hooks::before_ipvs(config, &words));
        if config.accept_bit.is_some() {
            // It clears that bit, too.
            chains.extend(marking.take());
        }
        chains.extend(hooks::destinations_kept(&words));
        let mut fixed = Self {
            chains,
            marking,
            fingerprint: String::new(),
        };
        let mut bytes = Vec::new();
        for command in fixed.commands(&config.family.place()) {
            command.write(&mut Writer::new(&mut bytes));
        }
        fixed.fingerprint = format!("{:016x}", fnv1a(&bytes));
        Ok(fixed)
    }

    /// All of it, as if there were no sets.
    fn commands(&self, place: &Place) -> impl Iterator<Item = Command> {
        self.chains(place, true).chain(self.rules(place, true, 0))
    }

    /// The name of the chain that says which fixed part this is.
    pub(crate) fn name(&self) -> String {
        format!("{FINGERPRINT_CHAIN}{}", self.fingerprint)
    }

    /// The chains of a table in which fronts have marks, or none has.
    pub(crate) fn with_marking(&self, marking: bool) -> impl Iterator<Item = &Chain> + Clone {
        let hung = self.marking.iter().filter(move |_| marking);
        self.chains.iter().chain(hung)
    }

    /// The chains, without rules.
    pub(crate) fn chains(&self, place: &Place, marking: bool) -> impl Iterator<Item = Command> {
        let named = [(self.name().into(), None)].into_iter();
        let chains = self.with_marking(marking);
        named
            .chain(chains.map(|chain| (chain.name.into(), chain.base)))
            .map(|(name, base)| Command::AddChain {
                place: place.clone(),
                name,
                base,
            })
    }

    /// The rules, with the sets that belong to them, which are numbered from
    /// `number` on.
    pub(crate) fn rules(&self, place: &Place, marking: bool, number: u32) -> Vec<Command> {
        let chains = self.with_marking(marking);
        chains.fold(Vec::new(), |mut all, chain| {
            let number = number.saturating_add(all.len() as u32);
            all.extend(chain.rules(place, number));
            all
        })
    }

    /// Hangs the chain for marks on its hook, since the first mark comes.
    pub(crate) fn hang_marking(&self, place: &Place, commands: &mut Commands) {
        let Some(chain) = &self.marking else { return };
        commands.push(Command::AddChain {
            place: place.clone(),
            name: chain.name.into(),
            base: chain.base,
        });
        // The same transaction may do this in the other family's table.
        let number = 1000 * u32::from(place.family);
        for rule in chain.rules(place, number) {
            commands.push(rule);
        }
    }

    /// Takes it from its hook, since the last mark went.
    pub(crate) fn unhang_marking(&self, place: &Place, commands: &mut Commands) {
        let Some(chain) = &self.marking else { return };
        commands.push(Command::FlushChain {
            place: place.clone(),
            chain: chain.name.into(),
        });
        commands.push(Command::DeleteChain {
            place: place.clone(),
            chain: chain.name.into(),
        });
    }
}

impl Chain {
    /// At a hook.
    fn base(name: &'static str, hook: u32, priority: i32, rules: Vec<Phrase>) -> Self {
        Self::of("filter", name, Hooked { hook, priority }, rules)
    }

    /// At a hook, for the first packet of each flow.
    fn nat(name: &'static str, hook: u32, priority: i32, rules: Vec<Phrase>) -> Self {
        Self::of("nat", name, Hooked { hook, priority }, rules)
    }

    fn of(kind: &'static str, name: &'static str, at: Hooked, rules: Vec<Phrase>) -> Self {
        let base = Some(Base { kind, at });
        Self { name, base, rules }
    }

    /// One that is gone to.
    fn side(name: &'static str, rules: Vec<Phrase>) -> Self {
        let base = None;
        Self { name, base, rules }
    }

    /// The rules; the sets that belong to them are numbered from `number` on.
    fn rules(&self, place: &Place, number: u32) -> Vec<Command> {
        let rules = (number..).zip(&self.rules);
        rules
            .flat_map(|(number, phrase)| rule(place, self.name.into(), phrase.clone(), number))
            .collect()
    }
}

/// Phrases that differ between families and configurations.
struct Words {
    ip: Phrases,
    /// Matches packets of local pods, when those are known.
    pods: Option<Phrase>,
    /// Matches packets that are not of local pods.
    not_pods: Option<Phrase>,
    /// Match packets from addresses of pods and to them, where pods are known by those.
    pods_by_address: Option<[Phrase; 2]>,
}

impl Words {
    fn new(config: &Config) -> Self {
        Self {
            ip: Phrases(config.family),
            pods: pods(config, Equal),
            not_pods: pods(config, NotEqual),
            pods_by_address: pod_networks(config).map(|networks| {
                let ends = [Side::Source, Side::Destination];
                ends.map(|side| Phrases(config.family).within(side, Equal, &networks))
            }),
        }
    }
}

/// What tells a local pod's packet.
fn pods(config: &Config, how: Compare) -> Option<Phrase> {
    match &config.local_pods {
        LocalPods::None => None,
        LocalPods::Bridge(name) => Some(from_link(how, name, true)),
        LocalPods::InterfacePrefix(prefix) => Some(from_link(how, prefix, false)),
        LocalPods::Cidrs(_) => pod_networks(config)
            .map(|networks| Phrases(config.family).within(Side::Source, how, &networks)),
    }
}

/// The networks of pods in this family, where those tell them.
fn pod_networks(config: &Config) -> Option<Vec<IpNet>> {
    let LocalPods::Cidrs(cidrs) = &config.local_pods else {
        return None;
    };
    let of_family =
        |net: &IpNet| matches!(net.addr(), IpAddr::V4(_)) == (config.family == Family::Ip);
    let own = crate::aggregate(cidrs.iter().copied().filter(of_family));
    let own: Vec<IpNet> = own.into_iter().collect();
    (!own.is_empty()).then_some(own)
}

/// A rule of several phrases.
fn all<const N: usize>(phrases: [Phrase; N]) -> Phrase {
    phrases.concat()
}

/// FNV-1a, 64 bits: the fingerprint must be the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

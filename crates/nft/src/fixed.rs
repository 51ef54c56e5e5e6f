//! The fixed part: chains and rules, decided by [`Config`] alone.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_exchange::{Request, Writer};

use crate::phrase::{
    Direction, Phrase, Phrases, Side, State, TCP, UDP, accept, add_mark, any_service_protocol,
    direction, drop, from_link, from_lo, goto, keep_mark, mark, mark_has, mark_in, masquerade,
    protocol, reset, set_mark, state, to_lo,
};
use crate::wire::{Base, Command, Compare, Hooked, Place, rule};
use crate::{Config, Family, Invalid, LocalPods, Set, Unallocated};
use Compare::{Equal, NotEqual};

/// Prefix of the empty chain that carries the fingerprint.
pub(crate) const FINGERPRINT_CHAIN: &str = "fixed-";

/// The set of all values in the maps: how a mark of ours is told from another's.
pub(crate) const MARK_VALUES: &str = "mark-values";

// enum nf_inet_hooks of linux/netfilter.h.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// The chains, and their name.
pub(crate) struct Fixed {
    pub(crate) chains: Vec<Chain>,
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
        let chains = vec![
            input(config, &words),
            guard(config, &words),
            refuse(&words),
            before_ipvs(config, &words),
            forward(config, &words),
            output(config, &words),
            re_emitted(config, &words),
            output_last(config, &words),
            postrouting(config, &words),
            masquerade_now(config),
            clear_marks(config),
        ];
        let mut fixed = Self {
            chains,
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
        self.chains(place).chain(self.rules(place, 0))
    }

    /// The name of the chain that says which fixed part this is.
    pub(crate) fn name(&self) -> String {
        format!("{FINGERPRINT_CHAIN}{}", self.fingerprint)
    }

    /// The chains, without rules.
    pub(crate) fn chains(&self, place: &Place) -> impl Iterator<Item = Command> {
        let named = [(self.name().into(), None)].into_iter();
        let chains = self.chains.iter();
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
    pub(crate) fn rules(&self, place: &Place, number: u32) -> Vec<Command> {
        let chains = self.chains.iter();
        let rules = chains.flat_map(|chain| chain.rules.iter().map(|rule| (chain.name, rule)));
        (number..)
            .zip(rules)
            .flat_map(|(number, (chain, phrase))| rule(place, chain.into(), phrase.clone(), number))
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
}

impl Words {
    fn new(config: &Config) -> Self {
        Self {
            ip: Phrases(config.family),
            pods: pods(config, Equal),
            not_pods: pods(config, NotEqual),
        }
    }
}

/// What tells a local pod's packet.
fn pods(config: &Config, how: Compare) -> Option<Phrase> {
    match &config.local_pods {
        LocalPods::None => None,
        LocalPods::Bridge(name) => Some(from_link(how, name, true)),
        LocalPods::InterfacePrefix(prefix) => Some(from_link(how, prefix, false)),
        LocalPods::Cidrs(cidrs) => {
            let of_family =
                |net: &IpNet| matches!(net.addr(), IpAddr::V4(_)) == (config.family == Family::Ip);
            let own = crate::aggregate(cidrs.iter().copied().filter(of_family));
            let own: Vec<IpNet> = own.into_iter().collect();
            (!own.is_empty()).then(|| Phrases(config.family).source(how, &own))
        }
    }
}

/// A rule of several phrases.
fn all<const N: usize>(phrases: [Phrase; N]) -> Phrase {
    phrases.concat()
}

/// A chain at a hook.
fn base(name: &'static str, hook: u32, priority: i32, rules: Vec<Phrase>) -> Chain {
    let base = Base {
        kind: "filter",
        at: Hooked { hook, priority },
    };
    Chain {
        name,
        base: Some(base),
        rules,
    }
}

/// A chain that is gone to.
fn side(name: &'static str, rules: Vec<Phrase>) -> Chain {
    Chain {
        name,
        base: None,
        rules,
    }
}

/// A chain without anything to do takes no hook.
fn base_if_any(name: &'static str, hook: u32, priority: i32, rules: Vec<Phrase>) -> Chain {
    if rules.is_empty() {
        side(name, rules)
    } else {
        base(name, hook, priority, rules)
    }
}

/// Verdicts, before IPVS sees a packet and before other filters (priority 0).
fn input(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mut rules = Vec::new();
    if let Some(accept) = config.accept_mask() {
        rules.push(all([ip.front_in(Set::ServicePorts), add_mark(accept)]));
    }
    let not_pods = words.not_pods.clone().unwrap_or_default();
    rules.extend([
        all([direction(Direction::Reply), accept()]),
        all([
            state(State::EstablishedOrRelated),
            protocol(NotEqual, UDP),
            accept(),
        ]),
        all([ip.front_in(Set::Reject), goto("refuse")]),
        all([
            ip.front_in(Set::Restricted),
            ip.front_and_source_not_in(Set::AllowedSources),
            drop(),
        ]),
        all([
            from_lo(NotEqual),
            not_pods,
            ip.front_in(Set::DropOutside),
            drop(),
        ]),
        all([ip.address_in(Side::Destination, Set::Vips), goto("guard")]),
    ]);
    base("input", INPUT, -1, rules)
}

/// To a VIP: echo, errors, neighbour discovery, Service ports; nothing else.
fn guard(config: &Config, words: &Words) -> Chain {
    // Of ICMP: unreachable, echo request, time exceeded, parameter problem. Of
    // ICMPv6: unreachable, too big, time exceeded, parameter problem, echo
    // request, neighbour solicitation and advertisement.
    let types: &[u8] = match config.family {
        Family::Ip => &[3, 8, 11, 12],
        Family::Ip6 => &[1, 2, 3, 4, 128, 135, 136],
    };
    let ip = words.ip;
    side(
        "guard",
        vec![
            all([ip.icmp(types), accept()]),
            all([ip.front_in(Set::ServicePorts), accept()]),
            goto("refuse"),
        ],
    )
}

fn refuse(words: &Words) -> Chain {
    let tcp = all([protocol(Equal, TCP), reset()]);
    side("refuse", vec![tcp, words.ip.reject()])
}

/// Marks, after every filter and right before IPVS.
fn before_ipvs(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let set_bit = add_mark(config.masquerade_mask());
    let mut rules = Vec::new();
    if let Some(accept) = config.accept_mask() {
        rules.push(clear_bit(accept));
    }
    if let Some(pods) = &words.pods {
        rules.push(all([
            pods.clone(),
            ip.set_mark_by_front(Set::InsideMarks),
            accept(),
        ]));
    }
    // A reply to a port of this host that happens to have the number is no request.
    rules.push(all([
        direction(Direction::Original),
        ip.set_mark_by_front(Set::NodePortMarks),
        accept(),
    ]));
    rules.push(all([
        state(State::New),
        ip.not_loopback(),
        ip.front_in(Set::Masquerade),
        set_bit.clone(),
        accept(),
    ]));
    if let Some(not_pods) = &words.not_pods {
        rules.push(all([
            state(State::New),
            not_pods.clone(),
            ip.front_in(Set::MasqueradeOffCluster),
            set_bit,
        ]));
    }
    base("before-ipvs", INPUT, 50, rules)
}

/// Answers of endpoints pass here; requests go to IPVS by way of `input`, so
/// what is for a cluster address here is for one that no Service has.
fn forward(config: &Config, words: &Words) -> Chain {
    let accept = config
        .accept_mask()
        .map(|accept| all([state(State::EstablishedOrRelated), add_mark(accept)]));
    let rules = unallocated(config, words).into_iter().chain(accept);
    base_if_any("forward", FORWARD, -1, rules.collect())
}

/// What this host sends, when everybody has translated what they translate:
/// IPVS has taken what is for a virtual server, and what is for other ports of
/// a VIP goes on to `input`.
fn output_last(config: &Config, words: &Words) -> Chain {
    let rules = unallocated(config, words).into_iter().collect();
    base_if_any("output-last", OUTPUT, 0, rules)
}

/// New connections to cluster addresses that nobody here has. Others may have
/// bound one, of a Service that is theirs.
fn unallocated(config: &Config, words: &Words) -> Option<Phrase> {
    let verdict = match config.unallocated {
        Unallocated::Drop => drop(),
        Unallocated::Reject => goto("refuse"),
        Unallocated::Forward => return None,
    };
    let ip = words.ip;
    Some(all([
        state(State::New),
        ip.address_in(Side::Destination, Set::ServiceCidrs),
        ip.local(Side::Destination, NotEqual),
        verdict,
    ]))
}

/// This host's own packets, before IPVS; and, translated, what IPVS forwards.
///
/// A refused datagram of this host is left to `input`, which it reaches over lo:
/// refused here, `send` would fail with EPERM instead of ECONNREFUSED. TCP and
/// SCTP are refused here, since a draining virtual server would still take them.
fn output(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let stranger = ip.front_and_source_not_in(Set::AllowedSources);
    let rules = vec![
        all([mark(NotEqual, 0), mark_in(MARK_VALUES), goto("re-emitted")]),
        all([direction(Direction::Reply), accept()]),
        all([
            state(State::New),
            ip.front_in(Set::Reject),
            protocol(NotEqual, UDP),
            goto("refuse"),
        ]),
        all([
            state(State::New),
            ip.front_in(Set::Restricted),
            stranger.clone(),
            drop(),
        ]),
        all([
            protocol(Equal, UDP),
            ip.front_in(Set::Restricted),
            stranger,
            drop(),
        ]),
        all([ip.set_mark_by_front(Set::InsideMarks), accept()]),
        all([ip.set_mark_by_front(Set::NodePortMarks), accept()]),
        all([
            state(State::New),
            ip.not_loopback(),
            ip.front_in(Set::Masquerade),
            add_mark(config.masquerade_mask()),
        ]),
    ];
    base("output", OUTPUT, -150, rules)
}

/// IPVS is done with our mark: of it the masquerade bit is left. What this host
/// sent to a node address gets that too, since the address may be one that
/// nobody answers to.
fn re_emitted(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mask = config.masquerade_mask();
    let rules = vec![
        all([mark_has(mask), set_mark(mask), accept()]),
        all([
            state(State::New),
            ip.asked_address_not_in(Set::Vips),
            ip.local(Side::Source, Equal),
            set_mark(mask),
            accept(),
        ]),
        set_mark(0),
    ];
    side("re-emitted", rules)
}

/// Only the first packet of a flow comes here.
fn postrouting(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let masquerade = goto("masquerade-now");
    let rules = vec![
        // An endpoint in this host's own network: nothing to come back to.
        all([to_lo(), accept()]),
        all([mark_has(config.masquerade_mask()), masquerade.clone()]),
        all([ip.addresses_in(Set::Hairpin), masquerade.clone()]),
        all([ip.address_in(Side::Source, Set::Vips), masquerade]),
    ];
    let base = Base {
        kind: "nat",
        at: Hooked {
            hook: POSTROUTING,
            priority: 100,
        },
    };
    Chain {
        name: "postrouting",
        base: Some(base),
        rules,
    }
}

fn masquerade_now(config: &Config) -> Chain {
    let ports = config.masquerade_ports();
    let with_ports = ports.map(|ports| {
        let ports = (*ports.start(), *ports.end());
        all([any_service_protocol(), masquerade(Some(ports))])
    });
    let rules = with_ports.into_iter().chain([masquerade(None)]);
    side("masquerade-now", rules.collect())
}

/// After NAT, for every packet: a tunnel's outer packet inherits the mark, and
/// would be masqueraded itself.
fn clear_marks(config: &Config) -> Chain {
    let bits = config.masquerade_mask() | config.accept_mask().unwrap_or(0);
    let rules = vec![
        all([mark(Equal, 0), accept()]),
        all([mark_in(MARK_VALUES), set_mark(0), accept()]),
        clear_bit(bits),
    ];
    base("clear-marks", POSTROUTING, 101, rules)
}

fn clear_bit(mask: u32) -> Phrase {
    all([mark_has(mask), keep_mark(!mask)])
}

/// FNV-1a, 64 bits: the fingerprint must be the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

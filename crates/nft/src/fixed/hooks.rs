//! The chains at hooks, and those that they share.

use super::{Chain, MARK_VALUES, Words, all};
use crate::phrase::{
    Direction, Phrase, SCTP, Side, State, TCP, accept, add_mark, any_service_protocol, direction,
    drop, first_packet, from_here, goto, keep_mark, mark, mark_has, mark_in, masquerade, no_syn,
    no_track, protocol, reset, set_mark, state, to_lo,
};
use crate::wire::Compare::{Equal, NotEqual};
use crate::{Class, Config, Family, Set, Unallocated};

// enum nf_inet_hooks of linux/netfilter.h.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// `NF_IP_PRI_RAW` of linux/netfilter_ipv4.h; conntrack is at -200.
const BEFORE_TRACKING: i32 = -300;

/// All but those of classes, and the one for marks.
pub(super) fn chains(config: &Config, words: &Words) -> Vec<Chain> {
    let mut chains = vec![
        input(config, words),
        guard(config, words),
        refuse(words),
        output(words),
        re_emitted(config, words),
        marked(words),
        postrouting(config, words),
        masquerade_now(config),
    ];
    chains.extend(forward(config, words));
    chains.extend(output_last(config, words));
    chains.extend(clear_marks(config));
    if config.untracked {
        chains.extend(untracked(words));
    }
    chains
}

/// TCP and SCTP that is under way, which no class judges.
pub(super) fn established() -> [Phrase; 2] {
    under_way(State::EstablishedOrRelated)
}

/// The same, and what conntrack makes nothing of: of connections of this host
/// that IPVS may still carry.
fn settled() -> [Phrase; 2] {
    under_way(State::InvalidOrKnown)
}

/// A SYN is never under way: conntrack keeps a connection for days that both ends
/// have long forgotten, and its next SYN is one of a new connection.
fn under_way(states: State) -> [Phrase; 2] {
    [no_syn(), protocol(Equal, SCTP)].map(|which| all([which, state(states), accept()]))
}

/// Verdicts, before IPVS sees a packet and before other filters (priority 0).
fn input(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let reply = all([direction(Direction::Reply), accept()]);
    let mut usual = Class::USUAL;
    if words.pods.is_some() {
        // ClusterIPs are masqueraded off the cluster.
        usual.reverse();
    }
    let usual = usual.map(|(class, set)| all([ip.front_in(set), goto(class.name())]));
    let classes = [&usual[..], &[ip.verdict_of_front(Set::Fronts)]].concat();
    // The accept bit is for every packet to a front: its class sees the
    // established ones as well.
    let first = if config.accept_bit.is_some() {
        [&[reply], &classes[..], &established()].concat()
    } else {
        [&established()[..], &[reply], &classes].concat()
    };
    let to_vips = ip.address_in(Side::Destination, Set::Vips);
    let guarded = all([to_vips, goto("guard")]);
    Chain::base("input", INPUT, -1, [first, vec![guarded]].concat())
}

/// To a VIP and no front: echo, errors, neighbour discovery; nothing else.
fn guard(config: &Config, words: &Words) -> Chain {
    // Of ICMP: unreachable, echo request, time exceeded, parameter problem. Of
    // ICMPv6: unreachable, too big, time exceeded, parameter problem, echo
    // request, neighbour solicitation and advertisement.
    let types: &[u8] = match config.family {
        Family::Ip => &[3, 8, 11, 12],
        Family::Ip6 => &[1, 2, 3, 4, 128, 135, 136],
    };
    let harmless = all([words.ip.icmp(types), accept()]);
    Chain::side("guard", vec![harmless, goto("refuse")])
}

fn refuse(words: &Words) -> Chain {
    let tcp = all([protocol(Equal, TCP), reset()]);
    Chain::side("refuse", vec![tcp, words.ip.reject()])
}

/// Marks, after every filter, which may clear them, and right before IPVS.
pub(super) fn before_ipvs(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mut rules = Vec::new();
    if let Some(accept) = config.accept_mask() {
        rules.push(clear_bit(accept));
    }
    // A SYN of a connection that only conntrack still knows is one for IPVS.
    rules.push(all([
        no_syn(),
        state(State::EstablishedOrRelated),
        accept(),
    ]));
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
    ]));
    Chain::base("before-ipvs", INPUT, 50, rules)
}

/// Answers of endpoints pass here; requests go to IPVS by way of `input`, so
/// what is for a cluster address here is for one that no Service has.
fn forward(config: &Config, words: &Words) -> Option<Chain> {
    let accept = config
        .accept_mask()
        .map(|accept| all([state(State::EstablishedOrRelated), add_mark(accept)]));
    let untracked = config.accept_mask().filter(|_| config.untracked);
    let untracked = untracked.map(|accept| {
        let answer = words.ip.sender_in(Set::UntrackedEndpoints);
        all([state(State::Untracked), answer, add_mark(accept)])
    });
    let rules: Vec<Phrase> = refused_unallocated(config, words)
        .into_iter()
        .chain(accept)
        .chain(untracked)
        .collect();
    (!rules.is_empty()).then(|| Chain::base("forward", FORWARD, -1, rules))
}

/// What this host sends, when everybody has translated what they translate:
/// IPVS has taken what is for a virtual server, and what is for other ports of
/// a VIP goes on to `input`.
fn output_last(config: &Config, words: &Words) -> Option<Chain> {
    let rule = refused_unallocated(config, words)?;
    Some(Chain::base("output-last", OUTPUT, 0, vec![rule]))
}

/// New connections to cluster addresses that nobody here has. `postrouting`,
/// where they are dropped otherwise, cannot refuse.
fn refused_unallocated(config: &Config, words: &Words) -> Option<Phrase> {
    let refuse = || all([state(State::New), unallocated(words), goto("refuse")]);
    (config.unallocated == Unallocated::Reject).then(refuse)
}

/// To a cluster address that nobody here has. Others may have bound one, of a
/// Service that is theirs.
fn unallocated(words: &Words) -> Phrase {
    let ip = words.ip;
    all([
        ip.address_in(Side::Destination, Set::ServiceCidrs),
        ip.local(Side::Destination, NotEqual),
    ])
}

/// This host's own packets, before IPVS; and, translated, what IPVS forwards.
fn output(words: &Words) -> Chain {
    let mut rules = vec![all([
        mark(NotEqual, 0),
        mark_in(MARK_VALUES),
        goto("re-emitted"),
    ])];
    rules.extend(settled());
    rules.push(all([direction(Direction::Reply), accept()]));
    // To be served is nothing that this host's own packets need.
    rules.push(words.ip.verdict_of_front(Set::Fronts));
    Chain::base("output", OUTPUT, -150, rules)
}

/// IPVS is done with our mark: of it the masquerade bit is left. What this host
/// sent to a node address gets that too, since the address may be one that
/// nobody answers to.
fn re_emitted(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mask = config.masquerade_mask();
    let rules = vec![
        all([mark_has(mask), first_packet(), set_mark(mask), accept()]),
        all([
            first_packet(),
            ip.asked_address_not_in(Set::Vips),
            ip.local(Side::Source, Equal),
            set_mark(mask),
            accept(),
        ]),
        set_mark(0),
    ];
    Chain::side("re-emitted", rules)
}

/// What this host sends to a front: it is always inside.
fn marked(words: &Words) -> Chain {
    let ip = words.ip;
    let rules = vec![
        all([ip.set_mark_by_front(Set::InsideMarks), accept()]),
        ip.set_mark_by_front(Set::NodePortMarks),
    ];
    Chain::side("marked", rules)
}

/// Only the first packet of a flow comes here, before the nat chains of others:
/// where one of those has translated, no later one is asked.
fn postrouting(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mask = config.masquerade_mask();
    let masquerade = || goto("masquerade-now");
    let mut rules = vec![
        // A tunnel's outer packet inherits the mark, and would be masqueraded itself.
        all([mark_has(mask), keep_mark(!mask), masquerade()]),
        all([ip.addresses_in(Set::Hairpin), masquerade()]),
    ];
    if config.unallocated == Unallocated::Drop {
        rules.push(all([unallocated(words), drop()]));
    }
    // Only what this host sends can have one.
    rules.push(all([
        from_here(Equal),
        ip.address_in(Side::Source, Set::Vips),
        masquerade(),
    ]));
    Chain::nat("postrouting", POSTROUTING, 99, rules)
}

/// Of the first packet of a flow to a VIP: no other nat chain sends it elsewhere.
/// A VIP is a local address, and a pod's `hostPort` (CNI portmap) is that port of
/// every local address. Those chains are at -100, and IPVS at -99 of `output`.
/// A VIP that is not bound here is left to them: another proxy may serve it.
pub(super) fn destinations_kept(words: &Words) -> [Chain; 2] {
    let ip = words.ip;
    let to_vip = ip.address_in(Side::Destination, Set::Vips);
    let local = ip.local(Side::Destination, Equal);
    let rule = all([to_vip, local, ip.keep_destination()]);
    [("prerouting", PREROUTING), ("output-nat", OUTPUT)]
        .map(|(name, hook)| Chain::nat(name, hook, -101, vec![rule.clone()]))
}

/// Before conntrack sees a packet: what Services that ask for it are sent, and what
/// their endpoints answer. IPVS translates both by what it knows itself. What may
/// be translated by others is left to conntrack both ways: what clients outside
/// send to a front, or by a `hostPort` to an endpoint, where pods are known by
/// their addresses; what an endpoint sends that may meet itself; and what this
/// host sends, since an answer to that looks like one to somebody masqueraded.
fn untracked(words: &Words) -> [Chain; 2] {
    let ip = words.ip;
    let pods = words.pods.clone().unwrap_or_default();
    let [from_pods, to_pods] = words.pods_by_address.clone().unwrap_or_default();
    let from_others = ip.address_not_in(Side::Source, Set::UntrackedOwn);
    let to_others = ip.address_not_in(Side::Destination, Set::UntrackedOwn);
    let to_front = ip.front_in(Set::UntrackedFronts);
    let to_endpoint = ip.front_in(Set::UntrackedEndpoints);
    // The set has this host's addresses. To look for them is the costliest
    // question of all, and has to be asked where an answer to one that is new may
    // be for a client that was masqueraded.
    let away = match words.pods_by_address {
        Some(_) => Phrase::new(),
        None => ip.local(Side::Destination, NotEqual),
    };
    let from_endpoint = ip.sender_in(Set::UntrackedEndpoints);
    let answer = all([
        to_pods,
        from_endpoint,
        to_others,
        away,
        no_track(),
        accept(),
    ]);
    // What few packets get by comes first: a look-up costs five comparisons.
    let come = vec![
        answer.clone(),
        all([pods, to_front, from_others.clone(), no_track(), accept()]),
        all([from_pods, to_endpoint, from_others, no_track(), accept()]),
    ];
    // An endpoint in this host's own network answers here. What IPVS sends on
    // comes here untracked already.
    let here = vec![all([state(State::Untracked), accept()]), answer];
    [
        Chain::base("untracked", PREROUTING, BEFORE_TRACKING, come),
        Chain::base("untracked-here", OUTPUT, BEFORE_TRACKING, here),
    ]
}

fn masquerade_now(config: &Config) -> Chain {
    // An endpoint in this host's own network: nothing to come back to.
    let here = all([to_lo(), accept()]);
    let ports = config.masquerade_ports();
    let with_ports = ports.map(|ports| {
        let ports = (*ports.start(), *ports.end());
        all([any_service_protocol(), masquerade(Some(ports))])
    });
    let rules = [here].into_iter().chain(with_ports);
    Chain::side("masquerade-now", rules.chain([masquerade(None)]).collect())
}

/// After NAT, for every packet: none leaves with the accept bit.
fn clear_marks(config: &Config) -> Option<Chain> {
    let rules = vec![clear_bit(config.accept_mask()?)];
    Some(Chain::base("clear-marks", POSTROUTING, 101, rules))
}

/// `meta mark & MASK != 0 meta mark set meta mark & ~MASK`
pub(crate) fn clear_bit(mask: u32) -> Phrase {
    all([mark_has(mask), keep_mark(!mask)])
}

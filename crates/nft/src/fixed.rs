//! The fixed part: chains and rules, decided by [`Config`] alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Config, Family, Invalid, LocalPods, Unallocated};

/// The chains as text, and their name.
pub(crate) struct Fixed {
    pub(crate) text: String,
    pub(crate) fingerprint: String,
    /// Every chain and the number of its rules.
    pub(crate) rules: BTreeMap<String, usize>,
}

/// Prefix of the empty chain that carries the fingerprint.
pub(crate) const FINGERPRINT_CHAIN: &str = "fixed-";

/// The set of all values in the maps: how a mark of ours is told from another's.
pub(crate) const MARK_VALUES: &str = "mark-values";

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Fixed {
    pub(crate) fn new(config: &Config) -> Result<Self, Invalid> {
        config.check()?;
        let words = Words::new(config);
        let chains = [
            input(config, &words),
            guard(config, &words),
            refuse(),
            before_ipvs(config, &words),
            forward(config, &words),
            output(config, &words),
            re_emitted(config, &words),
            output_last(config, &words),
            postrouting(config, &words),
            masquerade(config),
            clear_marks(config),
        ];
        let text: String = chains.iter().map(Chain::render).collect();
        let fingerprint = format!("{:016x}", fnv1a(text.as_bytes()));
        let rules = chains
            .iter()
            .map(|chain| (chain.name.to_owned(), chain.rules.len()))
            .chain([(format!("{FINGERPRINT_CHAIN}{fingerprint}"), 0)])
            .collect();
        Ok(Self {
            text,
            fingerprint,
            rules,
        })
    }
}

/// A chain under construction.
struct Chain {
    name: &'static str,
    base: Option<&'static str>,
    rules: Vec<String>,
}

impl Chain {
    fn render(&self) -> String {
        let mut text = format!("\tchain {} {{\n", self.name);
        if let Some(base) = self.base {
            text += &format!("\t\ttype {base}; policy accept;\n");
        }
        for rule in &self.rules {
            text += &format!("\t\t{rule}\n");
        }
        text + "\t}\n\n"
    }
}

/// Phrases that differ between families and configurations.
struct Words {
    /// `ip` or `ip6`.
    ip: &'static str,
    /// The front a packet is sent to.
    front: String,
    /// Matches a source that is not this host's loopback.
    not_loopback: String,
    /// Matches packets of local pods, when those are known.
    pods: Option<String>,
    /// Matches packets that are not of local pods.
    not_pods: Option<String>,
}

impl Words {
    fn new(config: &Config) -> Self {
        let ip = config.family.name();
        let loopback = match config.family {
            Family::Ip => "127.0.0.0/8",
            Family::Ip6 => "::1",
        };
        let pods = pods(config);
        Self {
            ip,
            front: format!("{ip} daddr . meta l4proto . th dport"),
            not_loopback: format!("{ip} saddr != {loopback}"),
            not_pods: pods.as_ref().map(|(what, who)| format!("{what} != {who}")),
            pods: pods.map(|(what, who)| format!("{what} {who}")),
        }
    }
}

/// What tells a local pod's packet, and the value that says yes.
fn pods(config: &Config) -> Option<(String, String)> {
    match &config.local_pods {
        LocalPods::None => None,
        LocalPods::Bridge(name) => Some(("iifname".into(), format!("\"{name}\""))),
        LocalPods::InterfacePrefix(prefix) => Some(("iifname".into(), format!("\"{prefix}*\""))),
        LocalPods::Cidrs(cidrs) => {
            let of_family =
                |net: &IpNet| matches!(net.addr(), IpAddr::V4(_)) == (config.family == Family::Ip);
            let own = crate::aggregate(cidrs.iter().copied().filter(of_family));
            if own.is_empty() {
                return None;
            }
            let list: Vec<String> = own.iter().map(IpNet::to_string).collect();
            let what = format!("{} saddr", config.family.name());
            Some((what, format!("{{ {} }}", list.join(", "))))
        }
    }
}

/// Verdicts, before IPVS sees a packet and before other filters (priority 0).
fn input(config: &Config, words: &Words) -> Chain {
    let Words { ip, front, .. } = words;
    let mut rules = Vec::new();
    if let Some(accept) = config.accept_mask() {
        rules.push(format!(
            "{front} @service-ports meta mark set meta mark | {accept:#010x}"
        ));
    }
    rules.extend([
        "ct direction reply accept".into(),
        format!("ct state established,related meta l4proto != {UDP} accept"),
        format!("{front} @rejected goto refuse"),
        format!("{front} @restricted {front} . {ip} saddr != @allowed-sources drop"),
        match &words.not_pods {
            Some(not_pods) => format!("iif != \"lo\" {not_pods} {front} @drop-outside drop"),
            None => format!("iif != \"lo\" {front} @drop-outside drop"),
        },
        format!("{ip} daddr @vips goto guard"),
    ]);
    Chain {
        name: "input",
        base: Some("filter hook input priority -1"),
        rules,
    }
}

/// To a VIP: echo, errors, neighbour discovery, Service ports; nothing else.
fn guard(config: &Config, words: &Words) -> Chain {
    let icmp = match config.family {
        Family::Ip => {
            "icmp type { destination-unreachable, echo-request, time-exceeded, parameter-problem } accept"
        }
        Family::Ip6 => {
            "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, \
             echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept"
        }
    };
    Chain {
        name: "guard",
        base: None,
        rules: vec![
            icmp.into(),
            format!("{} @service-ports accept", words.front),
            "goto refuse".into(),
        ],
    }
}

fn refuse() -> Chain {
    Chain {
        name: "refuse",
        base: None,
        rules: vec![
            format!("meta l4proto {TCP} reject with tcp reset"),
            // ICMP or ICMPv6 port unreachable, whichever is the table's.
            "reject".into(),
        ],
    }
}

/// Marks, after every filter and right before IPVS.
fn before_ipvs(config: &Config, words: &Words) -> Chain {
    let Words {
        front,
        not_loopback,
        ..
    } = words;
    let set_bit = set_bit(config);
    let mut rules = Vec::new();
    if let Some(accept) = config.accept_mask() {
        rules.push(clear_bit(accept));
    }
    if let Some(pods) = &words.pods {
        rules.push(format!(
            "{pods} meta mark set {front} map @inside-marks accept"
        ));
    }
    // A reply to a port of this host that happens to have the number is no request.
    rules.push(format!(
        "ct direction original meta mark set {front} map @node-port-marks accept"
    ));
    rules.push(format!(
        "ct state new {not_loopback} {front} @masqueraded {set_bit} accept"
    ));
    if let Some(not_pods) = &words.not_pods {
        rules.push(format!(
            "ct state new {not_pods} {front} @masquerade-off-cluster {set_bit}"
        ));
    }
    Chain {
        name: "before-ipvs",
        base: Some("filter hook input priority 50"),
        rules,
    }
}

/// Answers of endpoints pass here; requests go to IPVS by way of `input`, so
/// what is for a cluster address here is for one that no Service has. Without
/// anything to do an empty chain, and no hook is taken.
fn forward(config: &Config, words: &Words) -> Chain {
    let accept = config.accept_mask().map(|accept| {
        format!("ct state established,related meta mark set meta mark | {accept:#010x}")
    });
    let rules: Vec<String> = unallocated(config, words)
        .into_iter()
        .chain(accept)
        .collect();
    Chain {
        name: "forward",
        base: (!rules.is_empty()).then_some("filter hook forward priority -1"),
        rules,
    }
}

/// What this host sends, when everybody has translated what they translate:
/// IPVS has taken what is for a virtual server, and what is for other ports of
/// a VIP goes on to `input`.
fn output_last(config: &Config, words: &Words) -> Chain {
    let rules: Vec<String> = unallocated(config, words).into_iter().collect();
    Chain {
        name: "output-last",
        base: (!rules.is_empty()).then_some("filter hook output priority 0"),
        rules,
    }
}

/// New connections to cluster addresses that nobody here has. Others may have
/// bound one, of a Service that is theirs.
fn unallocated(config: &Config, words: &Words) -> Option<String> {
    let verdict = match config.unallocated {
        Unallocated::Drop => "drop",
        Unallocated::Reject => "goto refuse",
        Unallocated::Forward => return None,
    };
    let ip = words.ip;
    Some(format!(
        "ct state new {ip} daddr @service-cidrs fib daddr type != local {verdict}"
    ))
}

/// This host's own packets, before IPVS; and, translated, what IPVS forwards.
///
/// A refused datagram of this host is left to `input`, which it reaches over lo:
/// refused here, `send` would fail with EPERM instead of ECONNREFUSED. TCP and
/// SCTP are refused here, since a draining virtual server would still take them.
fn output(config: &Config, words: &Words) -> Chain {
    let Words {
        ip,
        front,
        not_loopback,
        ..
    } = words;
    let set_bit = set_bit(config);
    let fresh = format!("ct state new {front}");
    Chain {
        name: "output",
        base: Some("filter hook output priority -150"),
        rules: vec![
            format!("meta mark != 0 meta mark @{MARK_VALUES} goto re-emitted"),
            "ct direction reply accept".into(),
            format!("{fresh} @rejected meta l4proto != {UDP} goto refuse"),
            format!("{fresh} @restricted {front} . {ip} saddr != @allowed-sources drop"),
            format!(
                "meta l4proto {UDP} {front} @restricted {front} . {ip} saddr != @allowed-sources drop"
            ),
            format!("meta mark set {front} map @inside-marks accept"),
            format!("meta mark set {front} map @node-port-marks accept"),
            format!("ct state new {not_loopback} {front} @masqueraded {set_bit}"),
        ],
    }
}

/// IPVS is done with our mark: of it the masquerade bit is left. What this host
/// sent to a node address gets that too, since the address may be one that
/// nobody answers to.
fn re_emitted(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mask = config.masquerade_mask();
    Chain {
        name: "re-emitted",
        base: None,
        rules: vec![
            format!("meta mark & {mask:#010x} != 0 meta mark set {mask:#010x} accept"),
            format!(
                "ct state new ct original {ip} daddr != @vips fib saddr type local meta mark set {mask:#010x} accept"
            ),
            "meta mark set 0".into(),
        ],
    }
}

/// Only the first packet of a flow comes here.
fn postrouting(config: &Config, words: &Words) -> Chain {
    let ip = words.ip;
    let mask = config.masquerade_mask();
    Chain {
        name: "postrouting",
        base: Some("nat hook postrouting priority 100"),
        rules: vec![
            // An endpoint in this host's own network: nothing to come back to.
            "oif \"lo\" accept".into(),
            format!("meta mark & {mask:#010x} != 0 goto masquerade-now"),
            format!("{ip} saddr . {ip} daddr @hairpin goto masquerade-now"),
            format!("{ip} saddr @vips goto masquerade-now"),
        ],
    }
}

fn masquerade(config: &Config) -> Chain {
    let mut rules = Vec::new();
    if let Some(ports) = config.masquerade_ports() {
        let (first, last) = (ports.start(), ports.end());
        rules.push(format!(
            "meta l4proto {{ 6, 17, 132 }} masquerade to :{first}-{last} fully-random"
        ));
    }
    rules.push("masquerade fully-random".into());
    Chain {
        name: "masquerade-now",
        base: None,
        rules,
    }
}

/// After NAT, for every packet: a tunnel's outer packet inherits the mark, and
/// would be masqueraded itself.
fn clear_marks(config: &Config) -> Chain {
    Chain {
        name: "clear-marks",
        base: Some("filter hook postrouting priority 101"),
        rules: vec![
            "meta mark 0 accept".into(),
            format!("meta mark @{MARK_VALUES} meta mark set 0 accept"),
            clear_bit(config.masquerade_mask() | config.accept_mask().unwrap_or(0)),
        ],
    }
}

fn set_bit(config: &Config) -> String {
    format!(
        "meta mark set meta mark | {:#010x}",
        config.masquerade_mask()
    )
}

fn clear_bit(mask: u32) -> String {
    format!(
        "meta mark & {mask:#010x} != 0 meta mark set meta mark & {:#010x}",
        !mask
    )
}

/// FNV-1a, 64 bits: the fingerprint must be the same in every build.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

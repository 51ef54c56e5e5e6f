//! Chains of others that drop what we serve, and one accept rule in them.
//!
//! Every base chain at a hook has its say: a packet that our table accepts is
//! still dropped by another table's policy. IPVS takes packets at `input`, so a
//! host firewall that lets nothing in stops Services too, and a forward policy
//! of drop stops the answers of endpoints. All an own table can do is to mark
//! what it serves; the rule that accepts the mark must stand in the chain that
//! drops.

use std::fmt;

use serde_json::Value;

use crate::json::{Chain, Listing, Rule};
use crate::{Config, Family, Invalid, TABLE};

/// Where a foreign chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets to this host, and to IPVS.
    Input,
    /// Packets through this host: the answers of endpoints.
    Forward,
}

/// Why it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its policy is drop.
    Policy,
    /// Its last rule drops or refuses whatever comes so far.
    LastRule,
}

/// A base chain that is not ours and drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Name of the table: `filter` for iptables-nft and often for others.
    pub table: String,
    /// Name of the chain.
    pub chain: String,
    /// Where it stands.
    pub hook: Hook,
    /// Order at the hook: 0 is `filter`.
    pub priority: i64,
    /// Why it drops.
    pub reason: Reason,
    /// Our accept rule stands in it.
    pub accepted: bool,
}

impl ForeignChain {
    /// Whether a rule in it can see our mark: the mark is set at priority -1 and,
    /// at `input`, cleared at 50.
    pub fn is_reachable(&self) -> bool {
        self.priority > -1 && (self.hook == Hook::Forward || self.priority < 50)
    }
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Input => "input",
            Hook::Forward => "forward",
        };
        let reason = match self.reason {
            Reason::Policy => "policy drop",
            Reason::LastRule => "its last rule drops the rest",
        };
        write!(
            f,
            "nft table {} {}, chain {} (hook {hook}, priority {}): {reason}",
            self.family, self.table, self.chain, self.priority
        )
    }
}

/// Says which rules are ours.
const COMMENT: &str = "kube-ipvs";

/// The rule that lets pass what our table marked, at the top of a foreign chain.
/// It has a form `iptables-nft` can read: a match it cannot makes the whole table
/// unreadable to it.
///
/// # Errors
/// The bit is no bit, the chain is not reachable, or a name cannot be written.
pub fn render_foreign_accept(chain: &ForeignChain, accept_bit: u8) -> Result<String, Invalid> {
    let probe = Config {
        accept_bit: Some(accept_bit),
        masquerade_bit: (accept_bit + 1) % 32,
        ..Config::new(Family::Ip)
    };
    probe.check()?;
    if !chain.is_reachable() {
        return Err(Invalid::Unreachable(chain.to_string()));
    }
    let mask = 1u32 << accept_bit;
    let place = place(chain)?;
    Ok(format!(
        "insert rule {place} meta mark & {mask:#010x} == {mask:#010x} accept comment \"{COMMENT}\"\n"
    ))
}

pub(crate) fn render_delete_rule(chain: &ForeignChain, handle: u64) -> Result<String, Invalid> {
    Ok(format!("delete rule {} handle {handle}\n", place(chain)?))
}

/// Family, table and chain as nft reads them. There is no way to quote a name.
fn place(chain: &ForeignChain) -> Result<String, Invalid> {
    let plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c))
    };
    match [&chain.family, &chain.table, &chain.chain]
        .into_iter()
        .find(|name| !plain(name))
    {
        Some(name) => Err(Invalid::Name(name.clone())),
        None => Ok(format!("{} {} {}", chain.family, chain.table, chain.chain)),
    }
}

/// Base chains of others at `input` and `forward`. Whether they drop is not said yet.
pub(crate) fn base_chains(listing: &Listing) -> Vec<ForeignChain> {
    listing.chains.iter().filter_map(base_chain).collect()
}

fn base_chain(chain: &Chain) -> Option<ForeignChain> {
    let hook = match chain.hook.as_deref()? {
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        _ => return None,
    };
    let ours = chain.table == TABLE && Family::ALL.iter().any(|f| f.name() == chain.family);
    if ours || !["ip", "ip6", "inet"].contains(&chain.family.as_str()) {
        return None;
    }
    let drops = chain.policy.as_deref() == Some("drop");
    Some(ForeignChain {
        family: chain.family.clone(),
        table: chain.table.clone(),
        chain: chain.name.clone(),
        hook,
        priority: chain.prio.unwrap_or(0),
        reason: if drops {
            Reason::Policy
        } else {
            Reason::LastRule
        },
        accepted: false,
    })
}

/// Keeps a chain that drops what it does not know, and says whether our rule stands in it.
pub(crate) fn judge(chain: ForeignChain, rules: &Listing) -> Option<ForeignChain> {
    let drops = chain.reason == Reason::Policy || rules.rules.last().is_some_and(drops_everything);
    let accepted = !our_rules(rules).is_empty();
    drops.then_some(ForeignChain { accepted, ..chain })
}

/// A rule without a match that drops or refuses.
fn drops_everything(rule: &Rule) -> bool {
    let is = |value: &Value, names: &[&str]| names.iter().any(|name| value.get(name).is_some());
    rule.expr.iter().any(|value| is(value, &["drop", "reject"]))
        && rule
            .expr
            .iter()
            .all(|value| is(value, &["drop", "reject", "counter", "log"]))
}

/// A rule we inserted.
pub(crate) struct OurRule {
    pub(crate) handle: u64,
    /// The bit it looks at.
    pub(crate) mask: Option<u64>,
}

pub(crate) fn our_rules(listing: &Listing) -> Vec<OurRule> {
    let ours = |rule: &&Rule| rule.comment.as_deref() == Some(COMMENT);
    let read = |rule: &Rule| {
        Some(OurRule {
            handle: rule.handle?,
            mask: rule
                .expr
                .first()
                .and_then(|value| value.pointer("/match/right"))
                .and_then(Value::as_u64),
        })
    };
    listing.rules.iter().filter(ours).filter_map(read).collect()
}

//! Chains of others that drop what we serve, and one accept rule in them.
//!
//! Every base chain at a hook has its say: a packet that our table accepts is
//! still dropped by another table's policy. IPVS takes packets at `input`, so a
//! host firewall that lets nothing in stops Services too, and a forward policy
//! of drop stops the answers of endpoints. All an own table can do is to mark
//! what it serves; the rule that accepts the mark must stand in the chain that
//! drops.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::commands::Commands;
use crate::fixed::clear_bit;
use crate::phrase::{Phrase, accept, is_listed_as, mark_has_all};
use crate::wire::{Command, Expression, ListedChain, ListedRule, Place, Verdict};
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
    /// The bits of the mark that our accept rules in it look at.
    pub accept_bits: u32,
    /// No rule in it could let anything pass: whatever comes is dropped.
    pub drops_all: bool,
}

impl ForeignChain {
    /// Whether a rule in it can see our mark: the mark is set at priority -1 and,
    /// at `input`, cleared at 50.
    pub fn is_reachable(&self) -> bool {
        self.priority > -1 && (self.hook == Hook::Forward || self.priority < 50)
    }

    /// Whether our accept rule stands in it, for whatever bit.
    pub fn accepted(&self) -> bool {
        self.accept_bits != 0
    }

    /// Whether it lets pass what our table marks with this bit; without one,
    /// our table marks nothing.
    pub fn accepts(&self, accept_bit: Option<u8>) -> bool {
        let mask = accept_bit.and_then(|bit| 1u32.checked_shl(bit.into()));
        mask.is_some_and(|mask| self.accept_bits & mask != 0)
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            family: family_number(&self.family),
            table: self.table.clone().into(),
        }
    }
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = self.hook.name();
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

/// A base chain of others that lets pass what it does not know, but drops or
/// refuses some packets: by rules of its own, or of chains that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SomeDropped {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Name of the table.
    pub table: String,
    /// Name of the base chain.
    pub chain: String,
    /// Where it stands.
    pub hook: Hook,
    /// How many rules drop or refuse.
    pub rules: usize,
}

impl fmt::Display for SomeDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = self.hook.name();
        let noun = if self.rules == 1 { "rule" } else { "rules" };
        write!(
            f,
            "nft table {} {}, chain {} (hook {hook}) drops or refuses some packets, by {} {noun}",
            self.family, self.table, self.chain, self.rules
        )
    }
}

impl Hook {
    /// As nft names it.
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
        }
    }
}

/// Says which rules are ours.
const COMMENT: &str = "kube-ipvs";

/// The rule that lets pass what our table marked, at the top of a foreign chain.
/// It has a form `iptables-nft` can read: a match it cannot makes the whole table
/// unreadable to it.
///
/// # Errors
/// The bit is no bit, or the chain is not reachable.
pub fn render_foreign_accept(chain: &ForeignChain, accept_bit: u8) -> Result<Commands, Invalid> {
    let probe = Config {
        accept_bit: Some(accept_bit),
        masquerade_bit: (accept_bit + 1) % 32,
        ..Config::new(Family::Ip)
    };
    probe.check()?;
    if !chain.is_reachable() {
        return Err(Invalid::Unreachable(chain.to_string()));
    }
    Ok(Commands::new(vec![Command::AddRule {
        place: chain.place(),
        chain: chain.chain.clone().into(),
        first: true,
        expressions: accept_marked(accept_bit),
        among: 0,
        comment: Some(COMMENT),
    }]))
}

// NFPROTO_* of linux/netfilter.h, as nft names them.
const FAMILIES: [(u8, &str); 3] = [(2, "ip"), (10, "ip6"), (1, "inet")];

/// How nft names a family in which there are chains that we look at.
pub(crate) fn family_name(number: u8) -> Option<&'static str> {
    let mut families = FAMILIES.into_iter();
    families.find_map(|(known, name)| (known == number).then_some(name))
}

pub(crate) fn family_number(name: &str) -> u8 {
    let mut families = FAMILIES.into_iter();
    let found = families.find_map(|(number, known)| (known == name).then_some(number));
    found.unwrap_or(0)
}

/// Base chains of others at `input` and `forward`. Whether they drop is not said yet.
pub(crate) fn base_chains(chains: &[ListedChain]) -> Vec<ForeignChain> {
    chains.iter().filter_map(base_chain).collect()
}

fn base_chain(chain: &ListedChain) -> Option<ForeignChain> {
    // enum nf_inet_hooks of linux/netfilter.h.
    const LOCAL_IN: u32 = 1;
    const FORWARD: u32 = 2;
    const NF_DROP: u32 = 0;
    let at = chain.at?;
    let hook = match at.hook {
        LOCAL_IN => Hook::Input,
        FORWARD => Hook::Forward,
        _ => return None,
    };
    let family = family_name(chain.family)?;
    if chain.table == TABLE && Family::ALL.iter().any(|ours| ours.name() == family) {
        return None;
    }
    Some(ForeignChain {
        family: family.to_owned(),
        table: chain.table.clone(),
        chain: chain.name.clone(),
        hook,
        priority: at.priority.into(),
        reason: if chain.policy == Some(NF_DROP) {
            Reason::Policy
        } else {
            Reason::LastRule
        },
        accept_bits: 0,
        drops_all: false,
    })
}

/// Keeps a chain that drops what it does not know, and says whether our rule stands in it.
pub(crate) fn judge(chain: ForeignChain, rules: &[ListedRule]) -> Option<ForeignChain> {
    let drops = chain.reason == Reason::Policy || rules.last().is_some_and(drops_everything);
    let ours = our_rules(rules).into_iter();
    let accept_bits = ours.fold(0, |bits, rule| bits | 1 << rule.bit);
    let drops_all = rules.iter().all(drops_everything);
    drops.then_some(ForeignChain {
        accept_bits,
        drops_all,
        ..chain
    })
}

/// How many rules drop or refuse of a base chain and those that it leads to;
/// `rules` are those of its table. Verdicts in maps are not looked at.
pub(crate) fn some_dropped(base: &ForeignChain, rules: &[ListedRule]) -> Option<SomeDropped> {
    let count = led_to(&base.chain, rules, drops);
    (count > 0).then(|| SomeDropped {
        family: base.family.clone(),
        table: base.table.clone(),
        chain: base.chain.clone(),
        hook: base.hook,
        rules: count,
    })
}

/// How many expressions are such, of a base chain and those that it leads to.
pub(crate) fn led_to(base: &str, rules: &[ListedRule], is: impl Fn(&Expression) -> bool) -> usize {
    let mut by_chain: BTreeMap<&str, Vec<&ListedRule>> = BTreeMap::new();
    for rule in rules {
        by_chain.entry(&rule.chain).or_default().push(rule);
    }
    let mut seen = BTreeSet::from([base]);
    let mut next = vec![base];
    let mut count = 0;
    while let Some(chain) = next.pop() {
        let all = by_chain.get(chain).into_iter().flatten();
        for expression in all.flat_map(|rule| &rule.expressions) {
            if let Expression::Decide(Verdict::Goto(to) | Verdict::Jump(to)) = expression
                && seen.insert(to)
            {
                next.push(to);
            }
            count += usize::from(is(expression));
        }
    }
    count
}

/// Whether it drops or refuses what comes so far in its rule.
fn drops(expression: &Expression) -> bool {
    match expression {
        Expression::Decide(Verdict::Drop) | Expression::Reject { .. } => true,
        // As iptables-nft writes it.
        Expression::Other { name, extension } => {
            name == "target" && extension.as_deref() == Some("REJECT")
        }
        _ => false,
    }
}

/// A rule without a match that drops or refuses.
fn drops_everything(rule: &ListedRule) -> bool {
    let harmless = |expression: &Expression| match expression {
        Expression::Other { name, .. } => matches!(&name[..], "counter" | "log"),
        _ => false,
    };
    let mut all = rule.expressions.iter();
    rule.expressions.iter().any(drops) && all.all(|one| drops(one) || harmless(one))
}

/// The bit with which our table marks what it serves, by its rules: only for
/// such a bit there is one that clears it.
pub(crate) fn accept_bit(ours: &[ListedRule]) -> Option<u8> {
    let clears = |bit: &u8| {
        let clear = clear_bit(1 << bit);
        let mut rules = ours.iter();
        rules.any(|rule| is_listed_as(&clear, &rule.expressions))
    };
    (0..32).find(clears)
}

fn accept_marked(bit: u8) -> Phrase {
    [mark_has_all(1 << bit), accept()].concat()
}

/// A rule we inserted.
pub(crate) struct OurRule {
    pub(crate) handle: u64,
    /// Place of the bit it looks at, 0 the lowest.
    pub(crate) bit: u8,
}

/// Rules with our comment that say what only ours say: a comment is words, which
/// anybody may write to any rule.
pub(crate) fn our_rules(rules: &[ListedRule]) -> Vec<OurRule> {
    rules.iter().filter_map(our_rule).collect()
}

fn our_rule(rule: &ListedRule) -> Option<OurRule> {
    if rule.comment.as_deref() != Some(COMMENT) {
        return None;
    }
    let bit = (0..32).find(|&bit| is_listed_as(&accept_marked(bit), &rule.expressions))?;
    Some(OurRule {
        handle: rule.handle,
        bit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phrase::{drop, goto};

    fn rule(chain: &str, phrases: Phrase) -> ListedRule {
        ListedRule {
            table: "fw".into(),
            chain: chain.into(),
            expressions: phrases,
            ..ListedRule::default()
        }
    }

    fn base() -> ForeignChain {
        ForeignChain {
            family: "ip".into(),
            table: "fw".into(),
            chain: "in".into(),
            hook: Hook::Input,
            priority: 0,
            reason: Reason::LastRule,
            accept_bits: 0,
            drops_all: false,
        }
    }

    #[test]
    fn single_rules_that_drop_are_counted_where_the_chain_leads() {
        let marked = |then: Phrase| [mark_has_all(1), then].concat();
        let rules = [
            rule("in", marked(drop())),
            rule("in", marked(goto("deep"))),
            rule("deep", marked(crate::phrase::reset())),
            // Round in a circle, and where nothing leads.
            rule("deep", marked(goto("in"))),
            rule("unled", drop()),
        ];

        let found = some_dropped(&base(), &rules).expect("some");

        assert_eq!(
            found.to_string(),
            "nft table ip fw, chain in (hook input) drops or refuses some packets, by 2 rules"
        );
        assert_eq!(some_dropped(&base(), &rules[4..]), None);
    }

    /// Anybody may write our comment: what is removed says what ours say, too.
    #[test]
    fn a_rule_with_our_comment_and_other_words_is_not_ours() {
        let commented = |expressions: Phrase| ListedRule {
            comment: Some(COMMENT.to_owned()),
            ..rule("in", expressions)
        };
        let bits = |rules: &[ListedRule]| -> Vec<u8> {
            our_rules(rules).iter().map(|rule| rule.bit).collect()
        };
        let more = [accept_marked(13), drop()].concat();
        let others = [accept(), drop(), mark_has_all(1 << 13), more].map(commented);
        assert_eq!(bits(&others), [0; 0]);
        assert_eq!(bits(&[rule("in", accept_marked(13))]), [0; 0], "no comment");
        assert_eq!(bits(&[commented(accept_marked(13))]), [13]);
    }

    /// Our table marks at -1 and clears at 50 of `input`.
    #[test]
    fn a_rule_is_of_use_between_mark_and_clearing_alone() {
        let reachable = |hook, priority| {
            let chain = ForeignChain {
                hook,
                priority,
                ..base()
            };
            assert_eq!(
                render_foreign_accept(&chain, 13).is_ok(),
                chain.is_reachable()
            );
            chain.is_reachable()
        };
        let input = [-150, -1, 0, 49, 50].map(|at| reachable(Hook::Input, at));
        assert_eq!(input, [false, false, true, true, false]);
        let forward = [-1, 0, 50].map(|at| reachable(Hook::Forward, at));
        assert_eq!(forward, [false, true, true]);
    }

    #[test]
    fn an_accept_rule_is_one_for_its_bit_and_for_a_table_that_marks_with_it() {
        let ours = ListedRule {
            comment: Some(COMMENT.to_owned()),
            ..rule("in", accept_marked(13))
        };
        let last = rule("in", drop());
        let chain = judge(base(), &[ours, last]).expect("it drops");

        assert!(chain.accepted());
        let accepts = [None, Some(12), Some(13)].map(|bit| chain.accepts(bit));
        assert_eq!(accepts, [false, false, true]);
        let clears = [rule("clear-marks", clear_bit(1 << 13))];
        assert_eq!(accept_bit(&clears), Some(13));
        assert_eq!(accept_bit(&[rule("input", accept_marked(13))]), None);
    }
}

//! Our table as the kernel holds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::fixed::{Chain, FINGERPRINT_CHAIN, Fixed, MARK_VALUES};
use crate::packed::read_items;
use crate::phrase::{Phrase, is_listed_as};
use crate::set::mark_values;
use crate::wire::{Item, ListedChain, ListedRule, ListedSet};
use crate::{Config, Elements, Family, Invalid, Set};

/// What was read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the table calls its fixed part; none when it is not our making.
    pub fingerprint: Option<String>,
    /// Elements, as canonical text. Sets without elements are absent.
    pub elements: Elements,
    /// Elements that no table of ours holds, sets that are missing, flags of the
    /// table (a dormant one does nothing): a foreign hand. Only [`render_table`](crate::render_table) sets that right.
    pub strange: Vec<String>,
    chains: BTreeMap<String, ListedChain>,
    rules: BTreeMap<String, Vec<Phrase>>,
}

/// A set that was read, with its elements; none stands for one that no set of
/// ours has.
pub(crate) type ReadSet = (ListedSet, Vec<Option<Item>>);

impl Observed {
    /// Chains, rules and sets are those of this configuration, so a change can
    /// be applied; otherwise the whole table must be put in place.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    pub fn is_intact(&self, config: &Config) -> Result<bool, Invalid> {
        let fixed = Fixed::new(config)?;
        Ok(self.strange.is_empty()
            && self.fingerprint.as_ref() == Some(&fixed.fingerprint)
            // The one that bears the name has no rules.
            && self.chains.len() == fixed.chains.len() + 1
            && !self.rules.contains_key(&fixed.name())
            && fixed.chains.iter().all(|chain| self.has(chain)))
    }

    fn has(&self, chain: &Chain) -> bool {
        const NF_ACCEPT: u32 = 1;
        let policy = chain.base.map(|_| NF_ACCEPT);
        let hung = |listed: &ListedChain| {
            listed.at == chain.base.map(|base| base.at) && listed.policy == policy
        };
        let nothing = Vec::new();
        let rules = self.rules.get(chain.name).unwrap_or(&nothing);
        self.chains.get(chain.name).is_some_and(hung)
            && rules.len() == chain.rules.len()
            && chain
                .rules
                .iter()
                .zip(rules)
                .all(|(written, listed)| is_listed_as(written, listed))
    }

    pub(crate) fn new(
        family: Family,
        flags: u32,
        chains: Vec<ListedChain>,
        rules: Vec<ListedRule>,
        sets: &[ReadSet],
    ) -> Self {
        let mut observed = Self::default();
        if flags != 0 {
            observed.strange.push(format!("table flags {flags:#x}"));
        }
        for chain in chains {
            if let Some(fingerprint) = chain.name.strip_prefix(FINGERPRINT_CHAIN) {
                observed.fingerprint = Some(fingerprint.to_owned());
            }
            observed.chains.insert(chain.name.clone(), chain);
        }
        for rule in rules {
            let chain = observed.rules.entry(rule.chain).or_default();
            chain.push(rule.expressions);
        }
        observed.take_sets(family, sets);
        observed
    }

    fn take_sets(&mut self, family: Family, sets: &[ReadSet]) {
        let mut missing: BTreeSet<Set> = Set::ALL.into();
        let (mut marks, mut values) = (BTreeSet::new(), None);
        for (listed, items) in sets {
            let name = &listed.name;
            let spec = if name == MARK_VALUES {
                Some(mark_values())
            } else {
                Set::from_kernel_name(name).map(|set| set.spec(family))
            };
            let is = |flags, kind, length| {
                spec.as_ref()
                    .is_some_and(|spec| spec.is(flags, kind, length))
            };
            if !is(listed.flags, listed.key_type, listed.key_length) {
                self.strange.push(format!("set {name}"));
                continue;
            }
            let odd = items.iter().filter(|item| item.is_none()).count();
            if odd > 0 {
                self.strange.push(format!("set {name}: {odd} odd elements"));
            }
            let items: Vec<Item> = items.iter().copied().flatten().collect();
            if let Some(set) = Set::from_kernel_name(name) {
                missing.remove(&set);
                self.take_items(family, set, &items, &mut marks);
            } else {
                let keys = items.iter().map(|item| item.key.bytes());
                values = Some(keys.map(<[u8]>::to_vec).collect());
            }
        }
        let absent = missing
            .iter()
            .map(|set| format!("no set {}", set.kernel_name()));
        self.strange.extend(absent);
        if values.as_ref() != Some(&marks) {
            self.strange
                .push(format!("set {MARK_VALUES} is not the values of the maps"));
        }
    }

    fn take_items(
        &mut self,
        family: Family,
        set: Set,
        items: &[Item],
        marks: &mut BTreeSet<Vec<u8>>,
    ) {
        marks.extend(items.iter().filter_map(|item| item.data.map(Vec::from)));
        let (elements, strange) = read_items(set, family, items);
        let named = |item: String| format!("set {}: {item}", set.kernel_name());
        self.strange.extend(strange.into_iter().map(named));
        if !elements.is_empty() {
            let texts = elements.iter().map(ToString::to_string).collect();
            self.elements.insert(set, texts);
        }
    }
}

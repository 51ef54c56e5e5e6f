//! Our table as the kernel holds it.

use std::collections::{BTreeMap, BTreeSet};

use crate::earlier::Earlier;
use crate::element::{Element, Front};
use crate::fixed::{Chain, FINGERPRINT_CHAIN, Fixed, MARK_VALUES};
use crate::packed::read_items;
use crate::phrase::{Phrase, is_listed_as};
use crate::render::has_marks;
use crate::set::mark_values;
use crate::wire::{Data, Expression, Item, ListedChain, ListedRule, ListedSet};
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
    /// Some of its sets are those of an earlier version.
    is_earlier: bool,
    chains: BTreeMap<String, ListedChain>,
    rules: BTreeMap<String, Vec<Phrase>>,
    /// Elements of the sets that belong to rules, in order.
    constants: BTreeMap<String, Vec<Item>>,
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
        let chains = fixed.with_marking(has_marks(&self.elements));
        Ok(self.strange.is_empty()
            && !self.is_earlier
            && self.fingerprint.as_ref() == Some(&fixed.fingerprint)
            // The one that bears the name has no rules.
            && self.chains.len() == chains.clone().count() + 1
            && !self.rules.contains_key(&fixed.name())
            && chains.into_iter().all(|chain| self.has(chain)))
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
            && chain.rules.iter().zip(rules).all(|(written, listed)| {
                is_listed_as(written, listed) && self.has_constants(written, listed)
            })
    }

    /// The sets that belong to a rule hold what they were made with: who puts
    /// another rule in its place may change nothing else.
    fn has_constants(&self, written: &[Expression], listed: &[Expression]) -> bool {
        written.iter().zip(listed).all(|pair| match pair {
            (Expression::Among(written), Expression::Lookup(listed)) => {
                let mut made = written.set.constant.clone().unwrap_or_default();
                made.sort_unstable();
                self.constants.get(&listed.set) == Some(&made)
            }
            _ => true,
        })
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
        // Those of what is untracked are there if the rules that ask them are.
        let mut missing: BTreeSet<Set> = Set::ALL.into();
        missing.retain(|set| !Set::UNTRACKED.contains(set));
        let (mut marks, mut values) = (BTreeSet::new(), None);
        let mut earlier = Earlier::default();
        for (listed, items) in sets {
            let name = &listed.name;
            if listed.is_anonymous() {
                let items: Option<Vec<Item>> = items.iter().copied().collect();
                let mut items = items.unwrap_or_default();
                items.sort_unstable();
                self.constants.insert(name.clone(), items);
                continue;
            }
            let spec = if name == MARK_VALUES {
                Some(mark_values())
            } else if Earlier::has(name) {
                Some(Set::Served.spec(family))
            } else {
                Set::from_name(name).map(|set| set.spec(family))
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
            if let Some(set) = Set::from_name(name) {
                missing.remove(&set);
                self.take_items(family, set, &items, &mut marks);
            } else if Earlier::has(name) {
                earlier.take(name, family, &items);
            } else {
                let keys = items.iter().map(|item| item.key.bytes());
                values = Some(keys.map(<[u8]>::to_vec).collect());
            }
        }
        if earlier.found {
            self.is_earlier = true;
            earlier.put(&self.marked(family), &mut self.elements);
            for set in [Set::Served, Set::ServedOffCluster, Set::Fronts] {
                missing.remove(&set);
            }
        }
        let absent = missing.iter().map(|set| format!("no set {}", set.name()));
        self.strange.extend(absent);
        if values.as_ref() != Some(&marks) {
            self.strange
                .push(format!("set {MARK_VALUES} is not the values of the maps"));
        }
    }

    /// The fronts that have a mark.
    fn marked(&self, family: Family) -> BTreeSet<Front> {
        let maps = Set::MARKS.into_iter();
        let texts = maps.flat_map(|map| {
            let texts = self.elements.get(&map).into_iter().flatten();
            texts.map(move |text| Element::parse(map, family, text))
        });
        let fronts = texts.filter_map(|element| match element {
            Ok(Element::Mark(front, _)) => Some(front),
            _ => None,
        });
        fronts.collect()
    }

    fn take_items(
        &mut self,
        family: Family,
        set: Set,
        items: &[Item],
        marks: &mut BTreeSet<Vec<u8>>,
    ) {
        let data = items.iter().filter_map(|item| item.data);
        marks.extend(data.filter_map(|data| match data {
            Data::Mark(mark) => Some(Vec::from(mark)),
            Data::Goto(_) => None,
        }));
        let (elements, strange) = read_items(set, family, items);
        let named = |item: String| format!("set {}: {item}", set.name());
        self.strange.extend(strange.into_iter().map(named));
        if !elements.is_empty() {
            let texts = elements.iter().map(ToString::to_string).collect();
            self.elements.insert(set, texts);
        }
    }
}

//! One family's nftables table: made whole, changed by elements.

use std::collections::BTreeMap;

use anyhow::Context;
use kube_ipvs_core::state::{Family, NftElement, NftSet, NftState};
use kube_ipvs_nft as nft;
use nft::Nft;

use super::convert;

/// The table of a family and what has to be remembered of it.
pub(super) struct Table {
    config: nft::Config,
    /// How many fronts carry each inside mark.
    marks: BTreeMap<u32, usize>,
    /// The fixed part in the kernel is the one we want.
    current: bool,
}

impl Table {
    pub(super) fn new(config: nft::Config) -> Self {
        Self {
            config,
            marks: BTreeMap::new(),
            current: false,
        }
    }

    pub(super) fn family(&self) -> Family {
        match self.config.family {
            nft::Family::Ip => Family::V4,
            nft::Family::Ip6 => Family::V6,
        }
    }

    /// Reads the elements. A table that is missing, of another shape, or with
    /// elements that are not ours is made anew by [`Self::prepare`].
    pub(super) fn read(&mut self, program: &Nft, into: &mut NftState) -> anyhow::Result<()> {
        let family = self.config.family;
        let observed = program
            .read(family)
            .with_context(|| format!("read nftables table {family} kube-ipvs"))?;
        self.current = false;
        self.marks.clear();
        let Some(observed) = observed else {
            return Ok(());
        };
        let understood = convert::read_elements(&observed.elements, into);
        let intact = observed
            .is_intact(&self.config)
            .context("nftables configuration")?;
        self.current = understood && intact;
        self.remember(into);
        Ok(())
    }

    /// Makes the table, with the elements that were seen, unless it is there
    /// and right. One transaction: there is no moment without rules.
    pub(super) fn prepare(&mut self, program: &Nft, elements: &NftState) -> anyhow::Result<()> {
        if self.current {
            return Ok(());
        }
        let family = self.config.family;
        let elements = convert::elements(elements, self.family());
        let text = nft::render_table(&self.config, &elements)?;
        program
            .apply(&text)
            .with_context(|| format!("make nftables table {family} kube-ipvs"))?;
        tracing::info!(%family, "nftables table made");
        self.current = true;
        Ok(())
    }

    /// The text of one change, and what the marks will be after it.
    pub(super) fn change(&self, add: &NftState, remove: &NftState) -> anyhow::Result<Pending> {
        let change = nft::Change {
            removed: convert::elements(remove, self.family()),
            added: convert::elements(add, self.family()),
        };
        let mut marks = self.marks.clone();
        for mark in self.marks_in(remove) {
            if let Some(count) = marks.get_mut(&mark) {
                *count = count.saturating_sub(1);
            }
        }
        for mark in self.marks_in(add) {
            *marks.entry(mark).or_default() += 1;
        }
        marks.retain(|_, count| *count > 0);
        let text = nft::render_change(&self.config, &change, |mark| marks.contains_key(&mark))?;
        Ok(Pending { text, marks })
    }

    /// Puts the whole table in place: what the kernel holds now, and the change.
    /// For a change that did not fit what was there.
    pub(super) fn remake(
        &mut self,
        program: &Nft,
        add: &NftState,
        remove: &NftState,
    ) -> anyhow::Result<()> {
        let mut state = NftState::new();
        self.read(program, &mut state)?;
        for (set, elements) in remove {
            state
                .entry(*set)
                .or_default()
                .retain(|e| !elements.contains(e));
        }
        for (set, elements) in add {
            state
                .entry(*set)
                .or_default()
                .extend(elements.iter().copied());
        }
        self.current = false;
        self.prepare(program, &state)?;
        self.marks.clear();
        self.remember(&state);
        Ok(())
    }

    /// The change was made.
    pub(super) fn changed(&mut self, pending: Pending) {
        self.marks = pending.marks;
    }

    fn remember(&mut self, state: &NftState) {
        for mark in self.marks_in(state) {
            *self.marks.entry(mark).or_default() += 1;
        }
    }

    fn marks_in(&self, state: &NftState) -> Vec<u32> {
        let family = self.family();
        let maps = NftSet::MARKS.into_iter();
        let elements = maps.filter_map(|set| state.get(&set)).flatten();
        elements
            .filter(|element| element.family() == family)
            .filter_map(|element| match element {
                NftElement::Mark(_, mark) => Some(*mark),
                _ => None,
            })
            .collect()
    }
}

/// A change that is not made yet.
pub(super) struct Pending {
    /// For `nft -f -`; may be empty.
    pub(super) text: String,
    marks: BTreeMap<u32, usize>,
}

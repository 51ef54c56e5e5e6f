//! One family's nftables table: made whole, changed by elements.

use anyhow::Context;
use kube_ipvs_core::state::Family;
use kube_ipvs_core::table::{Edit, Table as Rows};
use kube_ipvs_nft as nft;
use nft::{Nft, NftError};

use super::projection::{self, Projection};

/// The table of a family and what has to be remembered of it.
pub(super) struct Table {
    config: nft::Config,
    projection: Projection,
    /// The fixed part in the kernel is the one we want, and so are all elements.
    current: bool,
}

impl Table {
    pub(super) fn new(config: nft::Config) -> Self {
        Self {
            config,
            projection: Projection::default(),
            current: false,
        }
    }

    pub(super) fn family(&self) -> Family {
        projection::family_of(&self.config)
    }

    /// Reads the rows. A table that is missing, of another shape, or with
    /// elements that are not those of rows is made anew by [`Self::prepare`].
    pub(super) fn read(&mut self, kernel: &mut Nft, into: &mut Rows) -> anyhow::Result<()> {
        let family = self.config.family;
        let observed = kernel
            .read(family)
            .with_context(|| format!("read nftables table {family} kube-ipvs"))?;
        self.current = false;
        self.projection = Projection::default();
        let Some(observed) = observed else {
            return Ok(());
        };
        let understood = projection::read(&observed.elements, &self.config, into);
        let intact = observed
            .is_intact(&self.config)
            .map_err(NftError::from)
            .context("nftables configuration")?;
        self.current = understood && intact;
        self.projection = Projection::of(into, self.family());
        Ok(())
    }

    /// Makes the table, with the rows that were seen, unless it is there and
    /// right. One transaction: there is no moment without rules.
    pub(super) fn prepare(&mut self, kernel: &mut Nft, rows: &Rows) -> anyhow::Result<()> {
        if self.current {
            return Ok(());
        }
        let family = self.config.family;
        let elements = projection::elements(rows, self.family());
        let commands = nft::render_table(&self.config, &elements).map_err(NftError::from)?;
        kernel
            .apply(&commands)
            .with_context(|| format!("make nftables table {family} kube-ipvs"))?;
        tracing::info!(%family, "nftables table made");
        self.projection = Projection::of(rows, self.family());
        self.current = true;
        Ok(())
    }

    /// What has to be in the kernel before a change is made; there may be nothing.
    pub(super) fn before_change(&self, edit: &Edit) -> anyhow::Result<nft::Commands> {
        let arrivals = nft::TableChange {
            added: Projection::arrivals(edit, self.family()),
            ..nft::TableChange::default()
        };
        Ok(nft::render_change(&self.config, &arrivals, |_| true).map_err(NftError::from)?)
    }

    /// The commands of a change; there may be none.
    pub(super) fn change(&self, edit: &Edit) -> anyhow::Result<nft::Commands> {
        let change = self.projection.change(edit, self.family());
        let in_use = self.projection.marks_after(edit, self.family());
        Ok(nft::render_change(&self.config, &change, in_use).map_err(NftError::from)?)
    }

    /// Puts the whole table in place: what the kernel holds now, and the change.
    /// For a change that did not fit what was there.
    pub(super) fn remake(&mut self, kernel: &mut Nft, edit: &Edit) -> anyhow::Result<()> {
        let mut rows = Rows::default();
        self.read(kernel, &mut rows)?;
        rows.put(edit);
        self.current = false;
        self.prepare(kernel, &rows)
    }

    /// The change was made.
    pub(super) fn changed(&mut self, edit: &Edit) {
        self.projection.changed(edit, self.family());
    }
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::row::{Row, Verdict};
    use kube_ipvs_core::table::Turn;

    use super::*;
    use crate::Nature;

    /// It is halved then until that row is found, and nobody else pays for it.
    #[test]
    fn a_change_that_would_not_be_valid_is_refused_for_its_content() {
        let table = Table::new(nft::Config::new(nft::Family::Ip));
        let marked = Row {
            inside: Some(1 << nft::DEFAULT_MASQUERADE_BIT),
            ..Row::of(Verdict::Serve)
        };
        let turn = Turn {
            from: None,
            to: Some(marked),
        };
        let mut edit = Edit::default();
        edit.rows.insert("10.96.0.1:80/TCP".parse().unwrap(), turn);

        let error = table.change(&edit).unwrap_err();
        assert_eq!(crate::linux::apply::nature(&error), Nature::Own);
    }
}

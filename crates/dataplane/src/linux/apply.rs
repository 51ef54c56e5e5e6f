//! Carries a plan out, in its order.
//!
//! Neighbouring IPVS operations go to the kernel in one batch. What a refusal
//! means for the rest of a plan is not decided here: the stage in which one
//! happens is the last.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ipvs_netlink as ipvs;
use kube_ipvs_core::Change;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::table::Edit;
use kube_ipvs_nft::{Commands, Nft, NftError};
use nix::errno::Errno;

use super::{Linux, convert};
use crate::{ApplyReport, Nature, Refusal};

/// Operations whose requests are in memory at the same time: those of a cold
/// start would take more than all that is known.
const AT_ONCE: usize = 4096;

pub(super) fn plan(linux: &mut Linux, plan: &Plan) -> ApplyReport {
    let mut run = Run {
        linux,
        report: ApplyReport::default(),
    };
    for stage in plan.stages() {
        if run.report.refused.is_empty() {
            run.stage(stage);
        }
    }
    run.report
}

struct Run<'a> {
    linux: &'a mut Linux,
    report: ApplyReport,
}

impl Run<'_> {
    fn stage(&mut self, stage: &[Op]) {
        match stage {
            [Op::Table(edit)] => self.table(edit),
            [Op::BindVips(vips)] => self.bind(vips),
            [Op::UnbindVips(vips)] => self.unbind(vips),
            ops => self.servers(ops),
        }
    }

    fn table(&mut self, edit: &Edit) {
        let started = Instant::now();
        match self.change_tables(edit) {
            Ok(()) => self.report.done += 1,
            Err(error) => {
                let nature = nature(&error);
                let error = format!("change nftables table: {error:#}");
                let refusal = Refusal::general("table", nature, error);
                self.report.refused.push(refusal);
            }
        }
        self.report.table += started.elapsed();
    }

    fn change_tables(&mut self, edit: &Edit) -> anyhow::Result<()> {
        let mut first = Commands::default();
        let mut commands = Commands::default();
        for table in &self.linux.tables {
            first.append(table.before_change(edit)?);
            commands.append(table.change(edit)?);
        }
        match in_turn(&mut self.linux.nft, &[first, commands]) {
            Err(error) if error.is_stale() => return self.remake_tables(edit, &error),
            made => made?,
        }
        for table in &mut self.linux.tables {
            table.changed(edit);
        }
        Ok(())
    }

    /// A foreign hand was in a table. Waiting for the next look would leave
    /// everything of this plan undone.
    fn remake_tables(&mut self, edit: &Edit, error: &NftError) -> anyhow::Result<()> {
        tracing::warn!(%error, "the tables are made anew");
        self.report.remade = true;
        for table in &mut self.linux.tables {
            table.remake(&mut self.linux.nft, edit)?;
        }
        Ok(())
    }

    fn bind(&mut self, vips: &BTreeSet<IpAddr>) {
        let started = Instant::now();
        let all: Vec<_> = vips.iter().copied().collect();
        let result = self.linux.binder.bind(&all);
        self.vips(result, all.len(), Change::Bind);
        self.report.netlink += started.elapsed();
    }

    fn unbind(&mut self, vips: &BTreeSet<IpAddr>) {
        let started = Instant::now();
        let all: Vec<_> = vips.iter().copied().collect();
        let result = self.linux.binder.unbind(&all);
        self.vips(result, all.len(), Change::Unbind);
        self.report.netlink += started.elapsed();
    }

    fn vips(
        &mut self,
        result: kube_ipvs_vip::Result<Vec<(IpAddr, kube_ipvs_vip::Error)>>,
        count: usize,
        change: fn(IpAddr) -> Change,
    ) {
        let report = &mut self.report;
        match result {
            Ok(refused) => {
                report.done += count - refused.len();
                report
                    .refused
                    .extend(refused.into_iter().map(|(vip, error)| {
                        let nature = match error.errno() {
                            Some(Errno::EPERM | Errno::EACCES) => Nature::Whole,
                            _ => Nature::Own,
                        };
                        Refusal::of(change(vip), nature, error.to_string())
                    }));
            }
            Err(error) => {
                let refusal = Refusal::general("vip", Nature::Unknown, error.to_string());
                report.refused.push(refusal);
            }
        }
    }

    fn servers(&mut self, ops: &[Op]) {
        let started = Instant::now();
        let mut unmade = BTreeSet::new();
        for ops in ops.chunks(AT_ONCE) {
            let (changes, requests): (Vec<_>, Vec<_>) = ops.iter().filter_map(request).unzip();
            match self.linux.client.apply(&requests) {
                Ok(errors) => {
                    self.linux.progress.advance(made(&changes));
                    self.report.done += requests.len() - errors.len();
                    self.judge(&changes, errors, &mut unmade);
                }
                Err(error) => {
                    let error = super::with_hint(error).to_string();
                    let refusal = Refusal::general("netlink", Nature::Unknown, error);
                    self.report.refused.push(refusal);
                    break;
                }
            }
        }
        self.report.netlink += started.elapsed();
    }

    /// What was not there to be removed is as wanted; a real server of a
    /// virtual server that was not made is no news.
    fn judge(
        &mut self,
        changes: &[Change],
        errors: Vec<(usize, ipvs::Error)>,
        unmade: &mut BTreeSet<VirtualServerKey>,
    ) {
        for (index, error) in errors {
            let change = changes[index];
            let nature = Nature::of(change, error.errno());
            match change {
                Change::AddVirtualServer(key) if nature != Nature::Exists => {
                    unmade.insert(key);
                }
                Change::AddRealServer(key, _) if unmade.contains(&key) => continue,
                _ if is_removal(change) && convert::is_not_found(&error) => {
                    self.report.done += 1;
                    continue;
                }
                _ => {}
            }
            let error = super::with_hint(error).to_string();
            self.report.refused.push(Refusal::of(change, nature, error));
        }
    }
}

/// One transaction after the other. Where one is refused those before it stay, so
/// that the tables are other than anybody knows, and are to be read again.
fn in_turn(nft: &mut Nft, transactions: &[Commands]) -> Result<(), NftError> {
    let mut made = false;
    for transaction in transactions {
        let result = nft.apply(transaction);
        if made && result.is_err() {
            nft.tables_read(None);
        }
        result?;
        made |= !transaction.is_empty();
    }
    Ok(())
}

/// How many virtual servers are made.
fn made(changes: &[Change]) -> usize {
    let changes = changes.iter();
    changes
        .filter(|change| matches!(change, Change::AddVirtualServer(_)))
        .count()
}

/// Whether something in a transaction is refused, or any transaction would be.
pub(super) fn nature(error: &anyhow::Error) -> Nature {
    match error.downcast_ref::<NftError>() {
        Some(error) if error.is_of_content() => Nature::Own,
        _ => Nature::Whole,
    }
}

fn request(op: &Op) -> Option<(Change, ipvs::Request)> {
    use ipvs::Request;
    let id = convert::service_id;
    let request = match op {
        Op::AddVirtualServer(key, to) => Request::AddService(convert::service(key, to)),
        Op::EditVirtualServer(key, to) => Request::EditService(convert::service(key, to)),
        Op::RemoveVirtualServer(key) => Request::RemoveService(id(key)),
        Op::AddRealServer(key, real, to) => {
            Request::AddDestination(id(key), convert::destination(real, to))
        }
        Op::EditRealServer(key, real, to) => {
            Request::EditDestination(id(key), convert::destination(real, to))
        }
        Op::RemoveRealServer(key, real) => {
            Request::RemoveDestination(id(key), convert::destination_id(real))
        }
        Op::Table(_) | Op::BindVips(_) | Op::UnbindVips(_) => return None,
    };
    Some((Change::of(op)?, request))
}

fn is_removal(change: Change) -> bool {
    matches!(
        change,
        Change::RemoveVirtualServer(_) | Change::RemoveRealServer(..)
    )
}

#[cfg(test)]
mod tests;

//! Carries a plan out, in its order.
//!
//! Neighbouring IPVS operations go to the kernel in one batch. Nothing that
//! opens a front is done once the table has refused a change: a VIP without its
//! guard, or a front without its source ranges, would be worse than none.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use ipvs_netlink as ipvs;
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::{NftState, VirtualServerKey};

use super::{Linux, convert};
use crate::dataplane::{ApplyReport, Refusal, keeping_guards};

pub(super) fn plan(linux: &mut Linux, plan: &Plan) -> ApplyReport {
    let mut run = Run {
        linux,
        report: ApplyReport::default(),
        batch: Vec::new(),
        guarded: true,
        withheld: BTreeSet::new(),
        bound: BTreeSet::new(),
    };
    for op in &plan.ops {
        run.op(op);
    }
    run.flush();
    run.report
}

struct Run<'a> {
    linux: &'a mut Linux,
    report: ApplyReport,
    batch: Vec<(VirtualServerKey, ipvs::Request)>,
    /// Every change of the table so far was made.
    guarded: bool,
    /// Virtual servers that were not made, and so take no real servers.
    withheld: BTreeSet<VirtualServerKey>,
    /// VIPs that would not go.
    bound: BTreeSet<IpAddr>,
}

impl Run<'_> {
    fn op(&mut self, op: &Op) {
        match op {
            Op::Nft { add, remove } => self.nft(add, remove),
            Op::BindVips(vips) => self.bind(vips),
            Op::UnbindVips(vips) => self.unbind(vips),
            Op::AddVirtualServer(key, _) if !self.guarded => {
                // Not an error of its own: the table's refusal has been reported.
                tracing::debug!(%key, "not made, since the table refused a change");
                self.withheld.insert(*key);
            }
            Op::RemoveVirtualServer(key) if !self.guarded => {
                // Its front may still pass the guard; without a virtual server
                // behind it, that would lead to whatever the host runs there.
                let error =
                    format!("keep virtual server {key}: the table refused to close its front");
                self.refuse("virtual_server", Some(*key), error);
            }
            _ => {
                let request = request(op).filter(|(key, _)| !self.withheld.contains(key));
                self.batch.extend(request);
            }
        }
    }

    fn nft(&mut self, add: &NftState, remove: &NftState) {
        self.flush();
        let started = Instant::now();
        let remove = keeping_guards(remove, &self.bound);
        if let Err(error) = self.change_tables(add, &remove) {
            self.guarded = false;
            self.refuse("nft", None, format!("change nftables table: {error:#}"));
        } else {
            self.report.done += 1;
        }
        self.report.nft += started.elapsed();
    }

    fn change_tables(&mut self, add: &NftState, remove: &NftState) -> anyhow::Result<()> {
        let mut text = String::new();
        let mut pending = Vec::new();
        for table in &self.linux.tables {
            let change = table.change(add, remove)?;
            text.push_str(&change.text);
            pending.push(change);
        }
        if !text.is_empty() {
            let before = self.linux.generation.now();
            match self.linux.nft.apply(&text) {
                Err(error) if error.is_stale() => return self.remake_tables(add, remove, &error),
                made => made?,
            }
            self.linux.generation.changed(before);
        }
        for (table, change) in self.linux.tables.iter_mut().zip(pending) {
            table.changed(change);
        }
        Ok(())
    }

    /// A foreign hand was in a table. Waiting for the next look would leave
    /// everything of this plan undone.
    fn remake_tables(
        &mut self,
        add: &NftState,
        remove: &NftState,
        error: &kube_ipvs_nft::NftError,
    ) -> anyhow::Result<()> {
        tracing::warn!(%error, "the tables are made anew");
        for table in &mut self.linux.tables {
            table.remake(&self.linux.nft, add, remove)?;
        }
        Ok(())
    }

    fn bind(&mut self, vips: &BTreeSet<IpAddr>) {
        self.flush();
        if !self.guarded {
            return;
        }
        let started = Instant::now();
        let vips: Vec<_> = vips.iter().copied().collect();
        let result = self.linux.binder.bind(&vips);
        self.vips(result, vips.len(), started);
    }

    fn unbind(&mut self, vips: &BTreeSet<IpAddr>) {
        self.flush();
        let started = Instant::now();
        let vips: Vec<_> = vips.iter().copied().collect();
        let result = self.linux.binder.unbind(&vips);
        match &result {
            Ok(refused) => self.bound.extend(refused.iter().map(|(vip, _)| *vip)),
            Err(_) => self.bound.extend(vips.iter().copied()),
        }
        self.vips(result, vips.len(), started);
    }

    fn vips(
        &mut self,
        result: kube_ipvs_vip::Result<Vec<(IpAddr, kube_ipvs_vip::Error)>>,
        count: usize,
        started: Instant,
    ) {
        self.report.netlink += started.elapsed();
        match result {
            Ok(refused) => {
                self.report.done += count - refused.len();
                for (_, error) in refused {
                    self.refuse("vip", None, error.to_string());
                }
            }
            Err(error) => self.refuse("vip", None, error.to_string()),
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let started = Instant::now();
        let (keys, requests): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        match self.linux.client.apply(&requests) {
            Ok(errors) => {
                self.report.done += requests.len() - errors.len();
                self.judge(&keys, &requests, errors);
            }
            Err(error) => self.refuse("netlink", None, super::with_hint(error).to_string()),
        }
        self.report.netlink += started.elapsed();
    }

    /// What was not there to be removed is as wanted; a real server of a
    /// virtual server that was refused is no news.
    fn judge(
        &mut self,
        keys: &[VirtualServerKey],
        requests: &[ipvs::Request],
        errors: Vec<(usize, ipvs::Error)>,
    ) {
        let mut without_server = BTreeSet::new();
        for (index, error) in errors {
            let key = keys[index];
            let kind = kind(&requests[index]);
            if kind == "virtual_server" {
                without_server.insert(key);
            } else if without_server.contains(&key) {
                continue;
            }
            if is_removal(&requests[index]) && convert::is_not_found(&error) {
                self.report.done += 1;
                continue;
            }
            self.refuse(kind, Some(key), super::with_hint(error).to_string());
        }
    }

    fn refuse(&mut self, kind: &'static str, key: Option<VirtualServerKey>, error: String) {
        self.report.refused.push(Refusal {
            kind,
            virtual_server: key,
            error,
        });
    }
}

fn request(op: &Op) -> Option<(VirtualServerKey, ipvs::Request)> {
    use ipvs::Request;
    let id = convert::service_id;
    Some(match op {
        Op::AddVirtualServer(key, to) => (*key, Request::AddService(convert::service(key, to))),
        Op::EditVirtualServer(key, to) => (*key, Request::EditService(convert::service(key, to))),
        Op::RemoveVirtualServer(key) => (*key, Request::RemoveService(id(key))),
        Op::AddRealServer(key, real, to) => (
            *key,
            Request::AddDestination(id(key), convert::destination(real, to)),
        ),
        Op::EditRealServer(key, real, to) => (
            *key,
            Request::EditDestination(id(key), convert::destination(real, to)),
        ),
        Op::RemoveRealServer(key, real) => (
            *key,
            Request::RemoveDestination(id(key), convert::destination_id(real)),
        ),
        Op::Nft { .. } | Op::BindVips(_) | Op::UnbindVips(_) => return None,
    })
}

fn kind(request: &ipvs::Request) -> &'static str {
    match request {
        ipvs::Request::AddService(_)
        | ipvs::Request::EditService(_)
        | ipvs::Request::RemoveService(_) => "virtual_server",
        _ => "real_server",
    }
}

fn is_removal(request: &ipvs::Request) -> bool {
    matches!(
        request,
        ipvs::Request::RemoveService(_) | ipvs::Request::RemoveDestination(..)
    )
}

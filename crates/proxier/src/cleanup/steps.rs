//! The single steps. A step that fails is reported, and the rest goes on.

use std::path::Path;

use anyhow::Context;
use ipvs_netlink as ipvs;
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_dataplane::linux::{convert, with_hint};
use kube_ipvs_dataplane::record::{FILE_NAME, RecordFile};
use kube_ipvs_dataplane::sysctl;
use kube_ipvs_nft::{Family, Nft, TABLE};
use kube_ipvs_vip::{Binder, Binding};

use super::{Action, CleanupArgs, Report};

const SYSCTLS: &str = "/proc/sys";
const ROUTES: Binding = Binding::Route {
    source_v4: None,
    source_v6: None,
};

pub(super) struct Cleaning<'a> {
    pub(super) args: &'a CleanupArgs,
    report: Report,
    /// None when it cannot be read; the file stays then.
    pub(super) record: Option<RecordFile>,
    nft: Option<Nft>,
    /// Our tables that are there.
    tables: Vec<Family>,
    /// The link is ours: there is a record, or a table, of ours.
    owns_link: bool,
}

impl<'a> Cleaning<'a> {
    /// Looks for what is ours.
    pub(super) fn start(args: &'a CleanupArgs) -> Self {
        let mut cleaning = Self {
            args,
            report: Report {
                dry_run: args.dry_run,
                ..Report::default()
            },
            record: None,
            nft: None,
            tables: Vec::new(),
            owns_link: args.state_dir.join(FILE_NAME).exists(),
        };
        let record = RecordFile::open(&args.state_dir);
        cleaning.record = cleaning.or_failed("ownership record", record);
        let nft = Nft::open().map_err(anyhow::Error::from);
        cleaning.nft = cleaning.or_failed("nftables tables", nft);
        let tables = cleaning.find_tables();
        cleaning.tables = cleaning
            .or_failed("nftables tables", tables)
            .unwrap_or_default();
        cleaning.owns_link |= !cleaning.tables.is_empty();
        cleaning
    }

    /// Everything goes.
    pub(super) fn remove(&mut self) {
        self.step("link", Self::remove_link);
        self.step("virtual servers", |this| this.remove_virtual_servers());
        self.remove_tables();
        self.step("sysctls", Self::put_back_sysctls);
        self.step("IPVS time-outs", Self::put_back_timeouts);
    }

    /// What another proxy has no use for goes, and the record forgets the rest.
    pub(super) fn hand_over(&mut self) {
        self.remove_tables();
        self.step("VIP routes", Self::leave_vips);
        self.step("virtual servers", Self::leave_virtual_servers);
        self.step("IPVS time-outs", Self::hand_over_timeouts);
        self.leave_sysctls();
    }

    /// Ends with the record: gone when it is empty, else it says what is left.
    pub(super) fn finish(mut self) -> Report {
        let Some(mut record) = self.record.take() else {
            return self.report;
        };
        if self.args.dry_run {
            return self.report;
        }
        let left = record.record();
        let empty =
            left.virtual_servers.is_empty() && left.sysctls.is_empty() && left.timeouts.is_none();
        let there = record.path().exists();
        let path = record.path().display().to_string();
        let result = if empty {
            record.delete()
        } else {
            record.flush()
        };
        match result {
            Ok(()) if empty && there => self.say(Action::Removed, "ownership record", path),
            Ok(()) => {}
            Err(error) => self.say(Action::Failed, "ownership record", format!("{error:#}")),
        }
        self.report
    }

    pub(super) fn say(&mut self, action: Action, kind: &'static str, text: impl Into<String>) {
        self.report.add(action, kind, text);
    }

    fn or_failed<T>(&mut self, kind: &'static str, result: anyhow::Result<T>) -> Option<T> {
        result
            .map_err(|error| self.say(Action::Failed, kind, format!("{error:#}")))
            .ok()
    }

    fn step(&mut self, kind: &'static str, step: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        let result = step(self);
        self.or_failed(kind, result);
    }

    fn find_tables(&mut self) -> anyhow::Result<Vec<Family>> {
        let Some(nft) = &mut self.nft else {
            return Ok(Vec::new());
        };
        let mut tables = Vec::new();
        for family in Family::ALL {
            if nft.read(family)?.is_some() {
                tables.push(family);
            }
        }
        Ok(tables)
    }

    fn remove_link(&mut self) -> anyhow::Result<()> {
        let link = &self.args.link;
        if nix::net::if_::if_nametoindex(link.as_str()).is_err() {
            return Ok(());
        }
        if !self.owns_link {
            let text =
                format!("{link}: there is no record and no table of ours, so it is not ours");
            self.say(Action::Left, "link", text);
            return Ok(());
        }
        let mut binder = Binder::new(link, Binding::Address)?;
        let mut vips = binder.bound_in(Binding::Address)?;
        vips.extend(binder.bound_in(ROUTES)?);
        if self.args.dry_run || binder.remove_link()? {
            let text = format!("{link} with {}", count(vips.len(), "VIP"));
            self.say(Action::Removed, "link", text);
        }
        Ok(())
    }

    fn remove_virtual_servers(&mut self) -> anyhow::Result<()> {
        let ours = self.recorded(|_| true);
        self.remove_these(&ours)
    }

    /// The recorded virtual servers that pass a test.
    fn recorded(&self, which: impl Fn(&VirtualServerKey) -> bool) -> Vec<VirtualServerKey> {
        let servers = self.record.iter().flat_map(|x| &x.record().virtual_servers);
        let keys = servers.map(|(key, _)| *key);
        keys.filter(which).collect()
    }

    /// Removes virtual servers that are ours and strikes them out, also those
    /// that somebody else has removed.
    fn remove_these(&mut self, ours: &[VirtualServerKey]) -> anyhow::Result<()> {
        if ours.is_empty() {
            return Ok(());
        }
        let mut client = open_ipvs()?;
        for key in ours {
            let id = convert::service_id(key);
            // Each by itself: a listing may lack one that is there
            // (`Dataplane::virtual_server`).
            let asked = if self.args.dry_run {
                client.service(&id).map(drop)
            } else {
                client.remove_service(&id)
            };
            let was_there = match asked {
                Ok(()) => true,
                Err(error) if convert::is_not_found(&error) => false,
                Err(error) => {
                    let text = format!("{key}: {:#}", with_hint(error));
                    self.say(Action::Failed, "virtual server", text);
                    continue;
                }
            };
            let service = self.strike(key);
            if was_there {
                self.say(Action::Removed, "virtual server", format!("{key}{service}"));
            }
        }
        Ok(())
    }

    /// Strikes a virtual server out; gives the name of its Service, for a report.
    fn strike(&mut self, key: &VirtualServerKey) -> String {
        let Some(record) = &mut self.record else {
            return String::new();
        };
        let service = record.record().virtual_servers.get(key);
        let text = match service.filter(|name| !name.is_empty()) {
            Some(name) => format!(" ({name})"),
            None => String::new(),
        };
        record.remove(key);
        text
    }

    fn remove_tables(&mut self) {
        let Some(mut nft) = self.nft.take() else {
            return;
        };
        for family in std::mem::take(&mut self.tables) {
            let result = if self.args.dry_run {
                Ok(())
            } else {
                nft.delete_table(family)
            };
            match result {
                Ok(()) => self.say(
                    Action::Removed,
                    "nftables table",
                    format!("{family} {TABLE}"),
                ),
                Err(error) => self.say(Action::Failed, "nftables table", error.to_string()),
            }
        }
        let accepts = if self.args.dry_run {
            nft.accepts()
        } else {
            nft.remove_accepts()
        };
        match accepts {
            Ok(0) => {}
            Ok(n) => self.say(
                Action::Removed,
                "accept rules",
                format!("in chains of others: {n}"),
            ),
            Err(error) => self.say(Action::Failed, "accept rules", error.to_string()),
        }
    }

    fn put_back_sysctls(&mut self) -> anyhow::Result<()> {
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        let changes = record.record().sysctls.clone();
        let report = if self.args.dry_run {
            sysctl::would_restore(Path::new(SYSCTLS), &changes)
        } else {
            sysctl::restore(Path::new(SYSCTLS), &changes)
        };
        if report.failed.is_empty() {
            record.forget_sysctls();
        }
        for sysctl::Changed { path, old, new, .. } in report.changed {
            self.say(
                Action::PutBack,
                "sysctl",
                format!("{path} from {old} to {new}"),
            );
        }
        for failed in report.failed {
            self.say(Action::Failed, "sysctl", failed.to_string());
        }
        Ok(())
    }

    /// Routes to VIPs go where the other proxy has bound the address itself.
    fn leave_vips(&mut self) -> anyhow::Result<()> {
        let mut binder = Binder::new(&self.args.link, Binding::Address)?;
        let routes = binder.bound_in(ROUTES)?;
        let addresses = binder.bound_in(Binding::Address)?;
        let (both, alone): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|vip| addresses.contains(vip));
        if !both.is_empty() {
            if !self.args.dry_run {
                for (_, error) in binder.unbind_in(ROUTES, &both)? {
                    self.say(Action::Failed, "VIP route", error.to_string());
                }
            }
            let text = format!("of {} that are addresses too", count(both.len(), "VIP"));
            self.say(Action::Removed, "routes", text);
        }
        for vip in alone {
            let text = format!("to {vip}: no other proxy has bound the address");
            self.say(Action::Left, "route", text);
        }
        Ok(())
    }

    /// Virtual servers at addresses are what the other proxy goes on with.
    /// Those for marks are ours alone: they go as soon as they carry nothing.
    fn leave_virtual_servers(&mut self) -> anyhow::Result<()> {
        let is_mark = |key: &VirtualServerKey| matches!(key, VirtualServerKey::Mark { .. });
        let fronts = self.recorded(|key| !is_mark(key));
        for key in &fronts {
            self.strike(key);
        }
        if !fronts.is_empty() {
            let text = format!("{} to the other proxy", fronts.len());
            self.say(Action::Left, "virtual servers", text);
        }
        let marks = self.recorded(is_mark);
        if marks.is_empty() {
            return Ok(());
        }
        let mut client = open_ipvs()?;
        let mut idle = Vec::new();
        for key in marks {
            match connections(&mut client, &key)? {
                0 => idle.push(key),
                n => {
                    let text = format!("{key}: carries {n} connections; run this again later");
                    self.say(Action::Left, "virtual server", text);
                }
            }
        }
        self.remove_these(&idle)
    }

    fn leave_sysctls(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        let changes = record.record().sysctls.clone();
        record.forget_sysctls();
        for sysctl::Changed { path, old, new, .. } in changes {
            let text = format!("{path} as we set it: {new}, before it was {old}");
            self.say(Action::Left, "sysctl", text);
        }
    }
}

pub(super) fn open_ipvs() -> anyhow::Result<ipvs::Client> {
    ipvs::Client::open().map_err(with_hint).context("open IPVS")
}

fn connections(client: &mut ipvs::Client, key: &VirtualServerKey) -> anyhow::Result<u64> {
    let destinations = match client.destinations(&convert::service_id(key)) {
        Err(error) if convert::is_not_found(&error) => return Ok(0),
        found => found.context("read IPVS destinations")?,
    };
    let each = destinations
        .iter()
        .map(|x| u64::from(x.active_connections) + u64::from(x.inactive_connections));
    Ok(each.sum())
}

fn count(number: usize, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

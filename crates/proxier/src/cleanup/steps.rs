//! The single steps. A step that fails is reported, and the rest goes on.

use std::path::Path;

use anyhow::Context;
use ipvs_netlink as ipvs;
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_dataplane::linux::{convert, set_timeouts, with_hint};
use kube_ipvs_dataplane::record::{ChangedTimeouts, FILE_NAME, RecordFile};
use kube_ipvs_dataplane::sysctl;
use kube_ipvs_nft::{Family, Nft, TABLE};
use kube_ipvs_vip::{Binder, Binding};

use super::{Action, CleanupArgs, Report};
use crate::config::file::DEFAULT_TCP_TIMEOUT;

const SYSCTLS: &str = "/proc/sys";
const ROUTES: Binding = Binding::Route {
    source_v4: None,
    source_v6: None,
};

pub(super) struct Cleaning<'a> {
    args: &'a CleanupArgs,
    report: Report,
    /// None when it cannot be read; the file stays then.
    record: Option<RecordFile>,
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

    fn say(&mut self, action: Action, kind: &'static str, text: impl Into<String>) {
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

    /// Time-outs that somebody has changed since are left alone.
    fn put_back_timeouts(&mut self) -> anyhow::Result<()> {
        let Some(changed) = self.record.as_ref().and_then(|x| x.record().timeouts) else {
            return Ok(());
        };
        let mut client = open_ipvs()?;
        let [tcp, tcp_fin, udp] = changed.new;
        if client.timeouts()? == (ipvs::Timeouts { tcp, tcp_fin, udp }) {
            let [tcp, tcp_fin, udp] = changed.old;
            if !self.args.dry_run {
                set_timeouts(&mut client, ipvs::Timeouts { tcp, tcp_fin, udp })?;
            }
            let text = format!("from {:?} to {:?} seconds", changed.new, changed.old);
            self.say(Action::PutBack, "IPVS time-outs", text);
        }
        if let Some(record) = &mut self.record {
            record.forget_timeouts();
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

    /// A time-out that we raised by ourselves goes back, since the other proxy
    /// would not set it; one that the configuration names is the other's too.
    fn hand_over_timeouts(&mut self) -> anyhow::Result<()> {
        let Some(changed) = self.record.as_ref().and_then(|x| x.record().timeouts) else {
            return Ok(());
        };
        let mut client = open_ipvs()?;
        let ipvs::Timeouts { tcp, tcp_fin, udp } = client.timeouts()?;
        let handed = HandedTimeouts::of(&changed, [tcp, tcp_fin, udp]);
        if handed.target != [tcp, tcp_fin, udp] && !self.args.dry_run {
            let [tcp, tcp_fin, udp] = handed.target;
            set_timeouts(&mut client, ipvs::Timeouts { tcp, tcp_fin, udp })?;
        }
        for (action, text) in handed.said {
            self.say(action, "IPVS time-out", text);
        }
        if let Some(record) = &mut self.record {
            record.forget_timeouts();
        }
        Ok(())
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

/// What becomes of IPVS time-outs that we changed, when another proxy follows.
struct HandedTimeouts {
    target: [u32; 3],
    said: Vec<(Action, String)>,
}

impl HandedTimeouts {
    fn of(changed: &ChangedTimeouts, now: [u32; 3]) -> Self {
        let mut handed = Self {
            target: now,
            said: Vec::new(),
        };
        for (at, name) in ["tcp", "tcpfin", "udp"].into_iter().enumerate() {
            let (old, new) = (changed.old[at], changed.new[at]);
            if old == new {
                continue;
            }
            let by_default = at == 0 && new == DEFAULT_TCP_TIMEOUT;
            let said = match (now[at] == new, by_default) {
                (true, true) => {
                    handed.target[at] = old;
                    (
                        Action::PutBack,
                        format!("{name} from {new} to {old} seconds"),
                    )
                }
                (true, false) => {
                    let text = format!(
                        "{name} as configured: {new} seconds, before it was {old}; the other \
                         proxy's configuration says what it should be"
                    );
                    (Action::Left, text)
                }
                (false, _) => {
                    let text = format!("{name}: somebody has changed it since, to {}", now[at]);
                    (Action::Left, text)
                }
            };
            handed.said.push(said);
        }
        handed
    }
}

fn open_ipvs() -> anyhow::Result<ipvs::Client> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a report, and what is set.
    fn handed(old: [u32; 3], new: [u32; 3], now: [u32; 3]) -> (Vec<String>, [u32; 3]) {
        let handed = HandedTimeouts::of(&ChangedTimeouts { old, new }, now);
        let said = handed.said.into_iter();
        let line = |(action, text): (Action, String)| format!("{action:?} {text}");
        (said.map(line).collect(), handed.target)
    }

    #[test]
    fn a_time_out_that_nobody_asked_for_goes_back() {
        let (said, target) = handed([900, 120, 300], [7800, 120, 300], [7800, 120, 300]);
        assert_eq!(said, ["PutBack tcp from 7800 to 900 seconds"]);
        assert_eq!(target, [900, 120, 300]);
    }

    #[test]
    fn one_that_was_configured_is_left_and_named() {
        let (said, target) = handed([900, 120, 300], [3600, 120, 60], [3600, 120, 60]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("Left tcp as configured: 3600 seconds, before it was 900"));
        assert!(said[1].starts_with("Left udp as configured: 60 seconds, before it was 300"));
        assert_eq!(target, [3600, 120, 60]);
    }

    #[test]
    fn one_that_somebody_changed_since_is_left() {
        // kube-proxy has set its own already.
        let (said, target) = handed([900, 120, 300], [7800, 120, 300], [1800, 120, 300]);
        assert_eq!(said, ["Left tcp: somebody has changed it since, to 1800"]);
        assert_eq!(target, [1800, 120, 300]);
    }
}

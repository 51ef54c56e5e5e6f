//! IPVS and its schedulers, by trying them.
//!
//! A virtual server with each scheduler is made in a scratch namespace. Where
//! none can be made (NET_ADMIN alone does not do), only the scheduler that must
//! be there is tried, in the node's own table, at an address for documentation.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use ipvs_netlink::{Client, Errno, Error, Service, ServiceId};
use kube_ipvs_core::options::SCHEDULERS;

use super::finding::Finding;
use super::scratch::scratch;
use crate::inspect::each;

/// What was tried.
#[derive(Debug)]
pub(super) struct Probe {
    /// Whether IPVS answers; the error and what to do about it otherwise.
    pub(super) open: Tried,
    /// Rows of the connection table.
    pub(super) conn_tab_size: Option<u32>,
    /// Schedulers by name; of those that cannot be had the error and what to do.
    pub(super) schedulers: BTreeMap<String, Tried>,
}

type Tried = Result<(), (String, String)>;

/// Tries IPVS in this thread's network namespace, and schedulers in another.
pub(super) fn probe(wanted: &str) -> Probe {
    let mut client = match Client::open() {
        Ok(client) => client,
        Err(error) => return Probe::without_ipvs(told(&error)),
    };
    let conn_tab_size = client.info().ok().map(|info| info.conn_tab_size);
    let tried = SCHEDULERS.into_iter().filter(|name| is_safe_to_try(name));
    let mut names: Vec<String> = tried.map(String::from).collect();
    if !names.iter().any(|name| name == wanted) {
        names.push(wanted.to_owned());
    }
    let schedulers = scratch(move || Client::open().map(|mut there| try_all(&mut there, &names)));
    let schedulers = match schedulers {
        Ok(Ok(tried)) => tried,
        Ok(Err(_)) | Err(_) => try_all(&mut client, &[wanted.to_owned()]),
    };
    Probe {
        open: Ok(()),
        conn_tab_size,
        schedulers,
    }
}

/// Connections of all real servers, and templates of persistence; none where the
/// kernel does not say. It counts them for each, while `/proc/net/ip_vs_conn`
/// takes the square of their number to read. Of all real servers one virtual
/// server's are held at a time: a daemon asks this, too.
pub(super) fn connections() -> Option<u64> {
    let mut client = Client::open().ok()?;
    let virtual_servers = client.services().ok()?;
    let mut sum = 0;
    let counted = each(&mut client, virtual_servers, |_, real_servers| {
        let counts = real_servers.iter().map(|one| {
            [
                one.active_connections,
                one.inactive_connections,
                one.persistent_connections,
            ]
        });
        sum += counts.flatten().map(u64::from).sum::<u64>();
    });
    counted.ok().map(|()| sum)
}

/// Not `lblc` and `lblcr`, unless their modules are there: they register with
/// every network namespace, and a kernel that loads them on demand does so
/// under the lock of IPVS. When a namespace ends at that moment, both wait for
/// each other, and no IPVS request is answered any more (seen on 6.1).
fn is_safe_to_try(scheduler: &str) -> bool {
    let loads_under_lock = matches!(scheduler, "lblc" | "lblcr");
    !loads_under_lock
        || Path::new("/sys/module")
            .join(format!("ip_vs_{scheduler}"))
            .exists()
}

fn try_all(client: &mut Client, names: &[String]) -> BTreeMap<String, Tried> {
    let tried = names
        .iter()
        .map(|name| (name.clone(), try_one(client, name)));
    tried.collect()
}

fn try_one(client: &mut Client, scheduler: &str) -> Tried {
    // TEST-NET-2: nobody's traffic goes there. kube-proxy tries it at the same place.
    let id = ServiceId::tcp(Ipv4Addr::new(198, 51, 100, 0), 20000);
    match client.add_service(&Service::new(id, scheduler.into())) {
        Ok(()) => client.remove_service(&id).map_err(|error| told(&error)),
        // Somebody's virtual server stands there: it stays, and says nothing.
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            Err((error.to_string(), module(scheduler)))
        }
        Err(error) => Err(told(&error)),
    }
}

fn told(error: &Error) -> (String, String) {
    let hint = error.hint().unwrap_or_else(|| "look at dmesg".to_owned());
    (error.to_string(), hint)
}

fn module(scheduler: &str) -> String {
    format!(
        "install the kernel's extra modules (ip_vs_{scheduler}), \
         or choose another --ipvs-scheduler"
    )
}

impl Probe {
    fn without_ipvs(error: (String, String)) -> Self {
        Self {
            open: Err(error),
            conn_tab_size: None,
            schedulers: BTreeMap::new(),
        }
    }

    pub(super) fn findings(&self, wanted: &str) -> Vec<Finding> {
        if let Err((error, remedy)) = &self.open {
            return vec![Finding::fail("ipvs", error, remedy)];
        }
        let size = self.conn_tab_size;
        let rows = size.map_or(String::new(), |rows| format!(", {rows} rows"));
        vec![
            Finding::ok("ipvs", format!("answers{rows}")),
            self.scheduler_finding(wanted),
        ]
    }

    fn scheduler_finding(&self, wanted: &str) -> Finding {
        let name = "ipvs schedulers";
        if let Some(Err((error, remedy))) = self.schedulers.get(wanted) {
            return Finding::fail(name, error, remedy);
        }
        let (there, missing): (Vec<_>, Vec<_>) =
            self.schedulers.iter().partition(|(_, tried)| tried.is_ok());
        let names = |list: Vec<(&String, _)>| -> String {
            let names: Vec<&str> = list.into_iter().map(|(name, _)| name.as_str()).collect();
            names.join(" ")
        };
        let mut detail = names(there);
        if !missing.is_empty() {
            detail += &format!("; not to be had: {}", names(missing));
        }
        Finding::ok(name, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    fn probe(schedulers: &[(&str, bool)]) -> Probe {
        let tried = |there: &bool| {
            if *there {
                Ok(())
            } else {
                Err(("no such scheduler (ENOENT)".to_owned(), module("twos")))
            }
        };
        Probe {
            open: Ok(()),
            conn_tab_size: Some(4096),
            schedulers: schedulers
                .iter()
                .map(|(name, there)| ((*name).to_owned(), tried(there)))
                .collect(),
        }
    }

    #[test]
    fn a_kernel_without_ipvs_fails_with_what_to_do() {
        let probe = Probe::without_ipvs(("no IPVS".into(), "load it".into()));

        assert_eq!(
            probe.findings("rr"),
            [Finding::fail("ipvs", "no IPVS", "load it")]
        );
    }

    #[test]
    fn a_missing_scheduler_fails_only_when_it_is_wanted() {
        let probe = probe(&[("mh", true), ("rr", true), ("twos", false)]);

        assert_eq!(
            probe.findings("rr"),
            [
                Finding::ok("ipvs", "answers, 4096 rows"),
                Finding::ok("ipvs schedulers", "mh rr; not to be had: twos"),
            ]
        );
        let wanted = &probe.findings("twos")[1];
        assert_eq!(wanted.verdict, Verdict::Fail);
        assert!(wanted.remedy.contains("ip_vs_twos"), "{wanted:?}");
    }
}

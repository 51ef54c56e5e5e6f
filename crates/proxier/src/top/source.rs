//! Where looks at IPVS come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use ipvs_netlink::{Client, Destination, Errno, Error, Service, ServiceId};
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_dataplane::linux::{key_of, with_hint};
use kube_ipvs_dataplane::record::{self, RecordFile};

use super::pods::Asking;
use super::rates::Counts;
use super::table::{Sample, Seen, Table};
use crate::pods::{PodArgs, PodNames};

/// Gives looks at IPVS.
pub trait Source {
    /// All virtual servers, and the real servers of those that are on the screen
    /// or whose turn it is.
    ///
    /// # Errors
    /// When they cannot be had now; the next time they may.
    fn look(&mut self, known: &Table, shown: &BTreeSet<ServiceId>) -> anyhow::Result<Sample>;

    /// All virtual servers with all of their real servers.
    ///
    /// # Errors
    /// As [`Source::look`].
    fn look_at_all(&mut self) -> anyhow::Result<Sample>;

    /// The names of the pods of `namespace/name`, which has real servers at these addresses, or
    /// why there are none: when that is news, and names are asked for.
    fn pods(
        &mut self,
        _service: Option<&str>,
        _addresses: &BTreeSet<IpAddr>,
    ) -> Option<anyhow::Result<PodNames>> {
        None
    }
}

/// The kernel, with the names that the daemon recorded.
#[derive(Debug)]
pub struct Kernel {
    client: Client,
    names: Names,
    pods: Asking,
    started: Instant,
}

impl Kernel {
    /// The IPVS of this network namespace, and the record of a state directory.
    ///
    /// # Errors
    /// No IPVS, or no right to read it: with the remedy.
    pub fn open(state_dir: PathBuf) -> anyhow::Result<Self> {
        let mut client = Client::open().map_err(with_hint)?;
        // Anybody may find the family; asking it something takes the right to.
        client.info().map_err(with_hint)?;
        Ok(Self {
            client,
            names: Names::new(state_dir),
            pods: Asking::new(PodArgs::default()),
            started: Instant::now(),
        })
    }

    /// The same with names of pods.
    #[must_use]
    pub fn with_pods(self, args: PodArgs) -> Self {
        Self {
            pods: Asking::new(args),
            ..self
        }
    }

    fn read(
        &mut self,
        choose: impl FnOnce(&[(ServiceId, Counts)]) -> Option<BTreeSet<ServiceId>>,
    ) -> anyhow::Result<Sample> {
        self.names.refresh()?;
        let at = self.started.elapsed();
        let services = self.client.services().map_err(with_hint)?;
        let now: Vec<_> = services
            .iter()
            .map(|service| (service.id, Counts::from(&service.stats)))
            .collect();
        let chosen = choose(&now);
        let mut servers = Vec::with_capacity(services.len());
        for (service, (id, counts)) in services.into_iter().zip(now) {
            let wanted = chosen.as_ref().is_none_or(|chosen| chosen.contains(&id));
            let real_servers = match wanted.then(|| self.client.destinations(&id)) {
                None => None,
                Some(Ok(found)) => Some(found),
                // It changes right now: the next look will do.
                Some(Err(Error::Interrupted { .. })) => None,
                // It vanished meanwhile.
                Some(Err(error)) if error.errno() == Some(Errno::ESRCH) => continue,
                Some(Err(error)) => return Err(with_hint(error)),
            };
            servers.push(self.seen(service, counts, real_servers));
        }
        Ok(Sample { at, servers })
    }

    fn seen(
        &self,
        service: Service,
        counts: Counts,
        real_servers: Option<Vec<Destination>>,
    ) -> Seen {
        Seen {
            id: service.id,
            service: self.names.of(&service.id),
            scheduler: service.scheduler,
            counts,
            real_servers,
        }
    }
}

impl Source for Kernel {
    fn look(&mut self, known: &Table, shown: &BTreeSet<ServiceId>) -> anyhow::Result<Sample> {
        self.read(|now| Some(known.choose(now, shown)))
    }

    fn look_at_all(&mut self) -> anyhow::Result<Sample> {
        self.read(|_| None)
    }

    fn pods(
        &mut self,
        service: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
    ) -> Option<anyhow::Result<PodNames>> {
        self.pods.turn(service, addresses, Instant::now())
    }
}

/// Names of Services, read again when the record has changed.
#[derive(Debug)]
struct Names {
    directory: PathBuf,
    names: BTreeMap<VirtualServerKey, Arc<str>>,
    /// Of the files that they are from; none before they were read.
    state: Option<[Option<(SystemTime, u64)>; 2]>,
}

impl Names {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            names: BTreeMap::new(),
            state: None,
        }
    }

    fn refresh(&mut self) -> anyhow::Result<()> {
        // What is written while they are read is seen the next time.
        let state = Some(record::FILES.map(|name| self.state_of(name)));
        if self.state == state {
            return Ok(());
        }
        let file = RecordFile::open(&self.directory).context("read the names of Services")?;
        let names = file.record().virtual_servers.iter();
        self.names = names.map(|(key, name)| (*key, name[..].into())).collect();
        self.state = state;
        Ok(())
    }

    fn state_of(&self, name: &str) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(self.directory.join(name)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// `namespace/name:port`; none for what is not ours.
    fn of(&self, id: &ServiceId) -> Option<Arc<str>> {
        self.names.get(&key_of(id)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_record_as_it_is_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let key: VirtualServerKey = "10.96.0.1:80/TCP".parse().expect("a key");
        let id = ServiceId::tcp([10, 96, 0, 1], 80);
        let mut names = Names::new(directory.path().to_owned());
        names.refresh().expect("no record is an empty one");
        assert_eq!(names.of(&id), None);

        let mut record = RecordFile::open(directory.path()).expect("a record");
        record.add(key, "ns/web:http".to_owned());
        record.flush().expect("it is written");
        names.refresh().expect("there is one");
        assert_eq!(names.of(&id).as_deref(), Some("ns/web:http"));

        record.remove(&key);
        record.flush().expect("a line of the journal");
        names.refresh().expect("it is longer");
        assert_eq!(names.of(&id), None);
    }
}

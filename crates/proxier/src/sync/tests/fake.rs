//! A kernel of maps with a switch for every fault. It outlives the syncer that
//! works on it, and tests go behind its back.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use kube_ipvs_core::drain::{Key, Load};
use kube_ipvs_core::listing::{Compared, Listing};
use kube_ipvs_core::model::{Model, ModelError};
use kube_ipvs_core::plan::{Op, Plan};
use kube_ipvs_core::state::{
    Front, KernelState, Protocol, RealServer, RealServerKey, VirtualServer, VirtualServerKey,
};
use kube_ipvs_core::table::Table;
use kube_ipvs_core::{Change, HostAddress, Listener};
use kube_ipvs_dataplane::record::ChangedTimeouts;
use kube_ipvs_dataplane::sysctl::Changed;
use kube_ipvs_dataplane::{
    ApplyReport, Connections, Dataplane, Nature, Observed, Prepared, Refusal,
};
use nix::errno::Errno;

/// What an operation meets.
pub(super) enum Fate {
    /// It is done, unless the kernel of maps refuses it by itself.
    Done,
    /// It is refused.
    Refused(Errno),
    /// Nothing comes back from the socket: this one and the rest may be done or not.
    Lost,
    /// Somebody has emptied the tables: they are made anew with this in them.
    Flushed,
    /// The program is killed before it.
    Killed,
}

/// The hook: what becomes of the operation with this number, counted from the start.
type Hook = Box<dyn FnMut(usize, &Op) -> Fate>;

/// What is behind a handle.
pub(super) struct Kernel {
    pub(super) model: Model,
    pub(super) connections: BTreeMap<Key, Connections>,
    pub(super) hook: Hook,
    /// Operations tried so far.
    pub(super) tried: usize,
    /// Everything that was done, in order.
    pub(super) done: Vec<Op>,
    /// How often it was read whole.
    pub(super) observed: usize,
    /// How often it was asked for a part, and how much it told then: virtual
    /// servers, real servers, VIPs, elements.
    pub(super) asked: usize,
    pub(super) told: usize,
    /// How often it was asked for all VIPs, and for this host's addresses.
    pub(super) vips_read: usize,
    pub(super) host_read: usize,
    /// Somebody else changed the tables since they were read.
    pub(super) tables_changed: bool,
    pub(super) observe_fails: Option<Errno>,
    pub(super) prepare_fails: bool,
    pub(super) conntrack_fails: bool,
    /// What somebody changed and `prepare` has to set again.
    pub(super) sysctls_changed: usize,
    /// IPVS time-outs likewise.
    pub(super) timeouts_changed: Option<ChangedTimeouts>,
    pub(super) forgotten: Vec<BTreeMap<Front, BTreeSet<RealServerKey>>>,
    pub(super) host: Vec<HostAddress>,
    pub(super) host_fails: bool,
    /// What it has no module for, and how often it was asked for it.
    pub(super) lacks: BTreeSet<&'static str>,
    pub(super) asked_for: Vec<String>,
    pub(super) gateways: BTreeSet<IpAddr>,
    /// Connections cannot be counted.
    pub(super) loads_fail: bool,
    /// What the host listens on, and how often somebody asked.
    pub(super) listeners: BTreeSet<Listener>,
    pub(super) listened: usize,
    /// What another proxy made, and how often somebody looked.
    pub(super) signs: BTreeSet<String>,
    pub(super) looked: usize,
    /// Virtual servers that listings skip: another namespace's went meanwhile.
    pub(super) unlisted: BTreeSet<VirtualServerKey>,
    /// Dangers met on the way, see [`Model::dangers`].
    pub(super) dangers: Vec<String>,
}

/// A handle to the kernel.
#[derive(Clone)]
pub(super) struct Fake(Rc<RefCell<Kernel>>);

impl Fake {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(Kernel {
            model: Model::default(),
            connections: BTreeMap::new(),
            hook: Box::new(|_, _| Fate::Done),
            tried: 0,
            done: Vec::new(),
            observed: 0,
            asked: 0,
            told: 0,
            vips_read: 0,
            host_read: 0,
            tables_changed: true,
            observe_fails: None,
            prepare_fails: false,
            conntrack_fails: false,
            sysctls_changed: 0,
            timeouts_changed: None,
            forgotten: Vec::new(),
            host: Vec::new(),
            host_fails: false,
            lacks: BTreeSet::new(),
            asked_for: Vec::new(),
            gateways: BTreeSet::new(),
            loads_fail: false,
            listeners: BTreeSet::new(),
            listened: 0,
            signs: BTreeSet::new(),
            looked: 0,
            unlisted: BTreeSet::new(),
            dangers: Vec::new(),
        })))
    }

    /// Behind everybody's back.
    pub(super) fn kernel(&self) -> RefMut<'_, Kernel> {
        self.0.borrow_mut()
    }

    pub(super) fn state(&self) -> KernelState {
        self.kernel().model.state().clone()
    }

    /// Somebody else edits the state.
    pub(super) fn edit(&self, change: impl FnOnce(&mut KernelState)) {
        let before = self.state();
        let mut state = before.clone();
        change(&mut state);
        let mut kernel = self.kernel();
        kernel.tables_changed |= state.table != before.table;
        kernel.model = Model::new(state);
    }

    /// From now on, `hook` decides. Operations are counted from 0 again.
    pub(super) fn hook(&self, hook: impl FnMut(usize, &Op) -> Fate + 'static) {
        let mut kernel = self.kernel();
        kernel.tried = 0;
        kernel.hook = Box::new(hook);
    }

    /// Faults are over.
    pub(super) fn heal(&self) {
        self.hook(|_, _| Fate::Done);
        let mut kernel = self.kernel();
        kernel.observe_fails = None;
        kernel.prepare_fails = false;
        kernel.conntrack_fails = false;
        kernel.host_fails = false;
        kernel.loads_fail = false;
    }

    /// Connections of a real server.
    pub(super) fn connect(&self, key: &str, real: &str, active: u32, inactive: u32) {
        let key = (key.parse().unwrap(), real.parse().unwrap());
        let counts = Connections { active, inactive };
        self.kernel().connections.insert(key, counts);
    }

    /// Weight of a real server; none when it is not there.
    pub(super) fn weight(&self, key: &str, real: &str) -> Option<u32> {
        let (key, real): Key = (key.parse().unwrap(), real.parse().unwrap());
        let state = self.state();
        let server = state.virtual_servers.get(&key)?;
        server.real_servers.get(&real).map(|real| real.weight)
    }
}

impl Kernel {
    /// Answers with a part of the state.
    fn part<T>(&mut self, part: impl FnOnce(&KernelState) -> (T, usize)) -> anyhow::Result<T> {
        self.asked += 1;
        if let Some(errno) = self.observe_fails {
            return Err(errno.into());
        }
        let (part, told) = part(self.model.state());
        self.told += told;
        Ok(part)
    }

    fn is_without_scheduler(&self, op: &Op) -> bool {
        match op {
            Op::AddVirtualServer(_, to) | Op::EditVirtualServer(_, to) => {
                self.lacks.contains(to.scheduler.as_str())
            }
            _ => false,
        }
    }

    /// One operation of a stage; false when nothing comes back any more.
    fn step(&mut self, op: &Op, report: &mut ApplyReport) -> bool {
        let number = self.tried;
        self.tried += 1;
        match (self.hook)(number, op) {
            Fate::Killed => panic!("killed before {op:?}"),
            Fate::Lost => {
                let lost = Refusal::general("netlink", Nature::Unknown, "no answer");
                report.refused.push(lost);
                return false;
            }
            Fate::Flushed => {
                let mut state = self.model.state().clone();
                state.table = Table::default();
                if let Op::Table(edit) = op {
                    state.table.put(edit);
                }
                self.model = Model::new(state);
                self.tables_changed = true;
                report.remade = true;
                report.done += 1;
                self.done.push(op.clone());
            }
            Fate::Refused(errno) => report.refused.extend(refused(op, errno)),
            Fate::Done if self.is_without_scheduler(op) => {
                report.refused.extend(refused(op, Errno::ENOENT));
            }
            Fate::Done => match self.model.step(op) {
                Ok(()) => {
                    report.done += 1;
                    self.done.push(op.clone());
                    self.dangers.extend(self.model.dangers(&BTreeSet::new()));
                }
                Err(error) => report.refused.extend(refused(op, errno_of(&error))),
            },
        }
        true
    }
}

fn errno_of(error: &ModelError) -> Errno {
    match error {
        ModelError::Exists(_) => Errno::EEXIST,
        ModelError::NoService(_) => Errno::ESRCH,
        ModelError::NoEntry(_) => Errno::ENOENT,
        ModelError::Invalid(_) => Errno::EINVAL,
        ModelError::Range(_) => Errno::ERANGE,
    }
}

/// As the real one says it.
fn refused(op: &Op, errno: Errno) -> Vec<Refusal> {
    let of = |change| Refusal::of(change, Nature::of(change, Some(errno)), errno.to_string());
    match op {
        Op::Table(_) => {
            let whole = matches!(errno, Errno::EPERM | Errno::ENOMEM | Errno::ENOBUFS);
            let nature = if whole { Nature::Whole } else { Nature::Own };
            vec![Refusal::general("table", nature, errno.to_string())]
        }
        Op::BindVips(vips) => vips.iter().map(|vip| of(Change::Bind(*vip))).collect(),
        Op::UnbindVips(vips) => vips.iter().map(|vip| of(Change::Unbind(*vip))).collect(),
        op => Change::of(op).map(of).into_iter().collect(),
    }
}

impl Dataplane for Fake {
    fn observe(&mut self) -> anyhow::Result<Observed> {
        let mut kernel = self.kernel();
        kernel.observed += 1;
        if let Some(errno) = kernel.observe_fails {
            return Err(errno.into());
        }
        kernel.tables_changed = false;
        let mut state = kernel.model.state().clone();
        let unlisted = &kernel.unlisted;
        state.virtual_servers.retain(|at, _| !unlisted.contains(at));
        let mut connections = kernel.connections.clone();
        connections.retain(|(at, _), _| !unlisted.contains(at));
        Ok(Observed { state, connections })
    }

    fn compare_virtual_servers(
        &mut self,
        known: &BTreeMap<VirtualServerKey, Arc<VirtualServer>>,
    ) -> anyhow::Result<Compared> {
        let unlisted = self.kernel().unlisted.clone();
        self.kernel().part(|state| {
            let all = state.virtual_servers.iter();
            let all = all.filter(|(key, _)| !unlisted.contains(key));
            let without = |(key, server): (&VirtualServerKey, &Arc<VirtualServer>)| {
                let server = VirtualServer {
                    scheduler: server.scheduler.clone(),
                    real_servers: BTreeMap::new(),
                    ..**server
                };
                (*key, server)
            };
            let mut listing = Listing::new(known);
            let mut count = 0;
            for (key, server) in all.map(without) {
                listing.take(key, server);
                count += 1;
            }
            (listing.compared().unwrap(), count)
        })
    }

    fn virtual_server(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<VirtualServer>> {
        self.kernel().part(|state| {
            let found = state.virtual_servers.get(server);
            (found.map(|found| (**found).clone()), 1)
        })
    }

    fn real_servers(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<Option<BTreeMap<RealServerKey, RealServer>>> {
        self.kernel().part(|state| {
            let reals = state.virtual_servers.get(server);
            let reals = reals.map(|server| server.real_servers.clone());
            let count = reals.as_ref().map_or(0, BTreeMap::len);
            (reals, count)
        })
    }

    fn vips(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        self.kernel().vips_read += 1;
        self.kernel()
            .part(|state| (state.vips.clone(), state.vips.len()))
    }

    fn tables(&mut self) -> anyhow::Result<Table> {
        let mut kernel = self.kernel();
        kernel.tables_changed = false;
        kernel.part(|state| (state.table.clone(), state.table.len()))
    }

    fn tables_changed(&mut self) -> bool {
        self.kernel().tables_changed
    }

    fn signs_of_others(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut kernel = self.kernel();
        kernel.looked += 1;
        Ok(kernel.signs.clone())
    }

    fn prepare(&mut self, _observed: &Observed) -> anyhow::Result<Prepared> {
        let mut kernel = self.kernel();
        anyhow::ensure!(!kernel.prepare_fails, "the table cannot be made");
        let count = std::mem::take(&mut kernel.sysctls_changed);
        let changed = |n| Changed {
            path: format!("net/ipv4/vs/{n}"),
            old: "0".to_owned(),
            new: "1".to_owned(),
            reason: "a test".to_owned(),
        };
        Ok(Prepared {
            sysctls: (0..count).map(changed).collect(),
            timeouts: kernel.timeouts_changed.take(),
        })
    }

    fn apply(&mut self, plan: &Plan) -> ApplyReport {
        let mut report = ApplyReport::default();
        let mut rest = plan.clone();
        while report.refused.is_empty()
            && let Some(stage) = rest.next_stage()
        {
            let mut unmade = BTreeSet::new();
            for op in &stage.ops {
                if let Op::AddRealServer(key, ..) = op
                    && unmade.contains(key)
                {
                    continue;
                }
                let before = report.refused.len();
                if !self.kernel().step(op, &mut report) {
                    return report;
                }
                if let Op::AddVirtualServer(key, _) = op
                    && report.refused[before..]
                        .iter()
                        .any(|r| r.nature != Nature::Exists)
                {
                    unmade.insert(*key);
                }
            }
        }
        report
    }

    fn forget_flows(
        &mut self,
        fronts: &BTreeMap<Front, BTreeSet<RealServerKey>>,
    ) -> anyhow::Result<usize> {
        let mut kernel = self.kernel();
        anyhow::ensure!(!kernel.conntrack_fails, "conntrack does not answer");
        kernel.forgotten.push(fronts.clone());
        Ok(fronts.len())
    }

    fn loads(
        &mut self,
        server: &VirtualServerKey,
    ) -> anyhow::Result<BTreeMap<RealServerKey, Load>> {
        let kernel = self.kernel();
        anyhow::ensure!(!kernel.loads_fail, "connections cannot be counted");
        let servers = &kernel.model.state().virtual_servers;
        let reals = servers.get(server).into_iter();
        let load = |(real, state): (&RealServerKey, &RealServer)| {
            let key = (*server, *real);
            let counts = kernel.connections.get(&key).copied().unwrap_or_default();
            let load = Load {
                weight: state.weight,
                active: counts.active,
                inactive: counts.inactive,
            };
            (*real, load)
        };
        Ok(reals.flat_map(|s| &s.real_servers).map(load).collect())
    }

    fn host_addresses(&mut self) -> anyhow::Result<Vec<HostAddress>> {
        let mut kernel = self.kernel();
        kernel.host_read += 1;
        anyhow::ensure!(!kernel.host_fails, "addresses cannot be read");
        Ok(kernel.host.clone())
    }

    fn listeners(
        &mut self,
        ports: &BTreeSet<(Protocol, u16)>,
    ) -> anyhow::Result<BTreeSet<Listener>> {
        let mut kernel = self.kernel();
        kernel.listened += 1;
        let all = kernel.listeners.iter().copied();
        Ok(all
            .filter(|x| ports.contains(&(x.protocol, x.port)))
            .collect())
    }

    fn lacks_scheduler(&mut self, name: &str) -> anyhow::Result<bool> {
        let mut kernel = self.kernel();
        kernel.asked_for.push(name.to_owned());
        Ok(kernel.lacks.contains(name))
    }

    fn gateways(&mut self) -> anyhow::Result<BTreeSet<IpAddr>> {
        Ok(self.kernel().gateways.clone())
    }
}

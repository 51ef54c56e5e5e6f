//! A node with pods, a machine outside, and kube-ipvs on the node, fed from a
//! directory of manifests.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kube_ipvs_tests::{
    Client, Daemon, Namespace, Node, Small, Topology, kube_ipvs, run, wait_for, wait_until,
};
use tempfile::TempDir;

use super::web::Web;

/// Longer than anything takes on a slow machine; nobody waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the health server listens.
pub(crate) const HEALTH: u16 = 10256;
/// Where the metrics server listens.
pub(crate) const METRICS: u16 = 10249;

/// The place of a test.
pub(crate) struct Site {
    // Declared first: the program ends before its network does.
    daemon: Option<Daemon>,
    pub(crate) small: Small,
    manifests: TempDir,
}

impl Site {
    /// The network, without Services and without the program.
    pub(crate) fn new() -> Self {
        Self {
            daemon: None,
            small: Topology::small(),
            manifests: tempfile::tempdir().expect("make a directory for manifests"),
        }
    }

    /// Writes the manifest of a Service, in one step as an editor should.
    pub(crate) fn write(&self, service: &Web) {
        self.write_text(&service.name, &service.to_yaml());
    }

    /// Writes a manifest that may be anything.
    pub(crate) fn write_text(&self, name: &str, text: &str) {
        let directory = self.manifests.path();
        let mut next = tempfile::NamedTempFile::new_in(directory).expect("make a file");
        next.write_all(text.as_bytes()).expect("write a manifest");
        next.persist(self.manifest(name)).expect("place a manifest");
    }

    /// Puts something that nobody can read in the place of a manifest. Mode
    /// bits would not do: the program is root.
    pub(crate) fn make_unreadable(&self, name: &str) {
        let link = self.manifests.path().join("link");
        symlink("/nowhere", &link).expect("make a dangling link");
        fs::rename(link, self.manifest(name)).expect("place the link");
    }

    /// Removes the manifest of a Service.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.manifest(name)).expect("remove a manifest");
    }

    /// Starts the program on one more node, with the same manifests.
    pub(crate) fn start_on(&self, node: &Node, name: &str, flags: &[&str]) -> Daemon {
        let name = format!("--hostname-override={name}");
        let manifests = self.manifests.path().display().to_string();
        let arguments = ["run", &name, "--manifests", &manifests];
        Daemon::start(&node.namespace, arguments.iter().chain(flags))
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.manifests.path().join(format!("{name}.yaml"))
    }

    /// Starts the program and waits until it is ready.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        self.start_in(flags, |_| {});
    }

    /// The same, with the program's environment prepared.
    pub(crate) fn start_in(&mut self, flags: &[&str], prepare: impl FnOnce(&mut Command)) {
        self.daemon = None;
        let manifests = self.manifests.path().display().to_string();
        let mut arguments = vec!["run", "--hostname-override=node-1", "--manifests"];
        arguments.push(&manifests);
        arguments.extend(flags);
        let mut command = kube_ipvs(self.node(), arguments);
        prepare(&mut command);
        self.daemon = Some(Daemon::spawn(&mut command));
        self.wait_until_ready();
    }

    /// Waits until `/readyz` is green.
    pub(crate) fn wait_until_ready(&mut self) {
        // Where it listens first; a program that cannot start ends before.
        let node = &self.small.node.namespace;
        let daemon = self.daemon.as_mut().expect("it was started");
        wait_until("kube-ipvs is ready", PATIENCE, || {
            assert!(daemon.is_running(), "kube-ipvs ended:\n{}", daemon.log());
            let at = (Ipv4Addr::LOCALHOST, HEALTH).into();
            page(node, at, "/readyz").is_some_and(|(code, _)| code == 200)
        });
    }

    /// The program.
    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it was started")
    }

    /// The node's namespace.
    pub(crate) fn node(&self) -> &Namespace {
        &self.small.node.namespace
    }

    /// Calls from the node itself.
    pub(crate) fn host(&self) -> Client<'_> {
        Client::within(self.node())
    }

    /// Calls from the first pod.
    pub(crate) fn pod(&self) -> Client<'_> {
        Client::within(&self.small.pods[0].namespace)
    }

    /// Calls from the machine outside.
    pub(crate) fn outside(&self) -> Client<'_> {
        Client::within(&self.small.outside.namespace)
    }

    /// What IPVS holds, as `ipvsadm -Sn` writes it.
    pub(crate) fn table(&self) -> String {
        self.node().run(|| run("ipvsadm", ["-Sn"]))
    }

    /// Waits until the table satisfies a condition.
    #[track_caller]
    pub(crate) fn wait_for_table(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let seen = wait_for(PATIENCE, || {
            let table = self.table();
            if condition(&table) {
                Ok(())
            } else {
                Err(table)
            }
        });
        seen.unwrap_or_else(|table| panic!("not within {PATIENCE:?}: {what}; the table:\n{table}"));
    }

    /// Waits until a VIP is on the link, which is the last step of a change.
    pub(crate) fn wait_for_vip(&self, vip: &str) {
        // Not `dev kube-ipvs0`: ip fails while there is no such link, and where
        // somebody removed it, that is what is waited for.
        let shown = ["-o", "addr", "show", "to", vip];
        let bound = || {
            let addresses = self.node().run(|| run("ip", shown));
            addresses.contains(" kube-ipvs0 ")
        };
        wait_until(&format!("{vip} is bound"), PATIENCE, bound);
    }

    /// Code and body of a page of the program on the node, which may have to open
    /// its port yet.
    pub(crate) fn get(&self, port: u16, path: &str) -> (u16, String) {
        let at = (Ipv4Addr::LOCALHOST, port).into();
        let page = wait_for(PATIENCE, || page(self.node(), at, path).ok_or(()));
        page.unwrap_or_else(|()| panic!("no answer on {port}{path}"))
    }

    /// Value of a series in `/metrics`, all its labels added up; 0 when it is absent.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get(METRICS, "/metrics");
        let of = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            let (_, value) = rest.rsplit_once(' ')?;
            if !rest.starts_with(['{', ' ']) {
                return None;
            }
            value.parse().ok()
        };
        text.lines().filter_map(of).sum()
    }
}

/// Code and body of a page by HTTP from inside a namespace; nothing when nobody answers.
pub(crate) fn page(namespace: &Namespace, at: SocketAddr, path: &str) -> Option<(u16, String)> {
    namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    })
}

//! As much of a kubelet as a pod of `deploy/base` needs, over podman.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use kube_ipvs_tests::apiserver::ApiServer;
use kube_ipvs_tests::daemon::state_directory;
use kube_ipvs_tests::{Daemon, Node, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::spec::{Container, NAME, Pod, Probe, Volume, tag, write_config_map};

/// Longer than anything takes on a slow machine; nobody waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// What every pod's requests to the API server bear.
pub(crate) const TOKEN: &str = "a-service-account";
/// As long as a kubelet waits for the answer to a probe.
const PROBE: Duration = Duration::from_secs(1);

/// The kubelet of one node.
pub(crate) struct Kubelet {
    node: String,
    address: SocketAddr,
    namespace: PathBuf,
    state: PathBuf,
    volumes: TempDir,
}

impl Kubelet {
    /// That of `node`, whose pods find `server`.
    pub(crate) fn of(node: &Node, server: &ApiServer) -> Self {
        load_image();
        let volumes = tempfile::tempdir().expect("a directory");
        let [config, account] = ["config", "account"].map(|name| volumes.path().join(name));
        fs::create_dir(&config).expect("make a directory");
        write_config_map(&config, &server.url());
        fs::create_dir(&account).expect("make a directory");
        fs::write(account.join("ca.crt"), authority(server)).expect("write the authority");
        fs::write(account.join("token"), TOKEN).expect("write the token");
        fs::write(account.join("namespace"), "kube-system").expect("write the namespace");
        let state = state_directory(&node.namespace);
        fs::create_dir_all(&state).expect("make the node's directory");
        Self {
            node: "node-1".to_owned(),
            address: (node.v4(), 0).into(),
            namespace: node.namespace.path(),
            state,
            volumes,
        }
    }

    /// Runs the init containers, starts the daemon's, and waits until its
    /// startup and readiness probes have passed.
    pub(crate) fn start(&self, pod: &Pod) -> Running {
        self.init(pod);
        self.start_container(pod, &[])
    }

    /// Runs the init containers to their end.
    pub(crate) fn init(&self, pod: &Pod) {
        for container in &pod.init {
            let mut running = self.launch(pod, container, &[]);
            let status = running.wait();
            assert!(
                status.success(),
                "{}: {status}\n{}",
                container.name,
                running.log()
            );
        }
    }

    /// Starts the daemon's container, also again, and waits for its probes.
    pub(crate) fn start_container(&self, pod: &Pod, more: &[&str]) -> Running {
        let container = &pod.containers[0];
        let mut running = self.launch(pod, container, more);
        let startup = container.startup.as_ref().expect("a startup probe");
        let mut failures = 0;
        while let Err(why) = self.ask(startup) {
            running.must_run();
            failures += 1;
            assert!(
                failures < startup.failures,
                "a kubelet would kill it: {why}\n{}",
                running.log()
            );
            thread::sleep(startup.period);
        }
        let readiness = container.readiness.as_ref().expect("a readiness probe");
        wait_until("the pod is ready", PATIENCE, || {
            running.must_run();
            self.ask(readiness).is_ok()
        });
        running
    }

    /// Runs the pod's one container to its end and gives what it wrote.
    pub(crate) fn once(&self, pod: &Pod) -> (ExitStatus, String) {
        let mut running = self.launch(pod, &pod.containers[0], &[]);
        let status = running.wait();
        (status, running.log())
    }

    /// Asks a probe once, from the node as a kubelet does.
    pub(crate) fn ask(&self, probe: &Probe) -> Result<(), String> {
        let mut address = self.address;
        address.set_port(probe.port);
        let namespace = fs::File::open(&self.namespace).expect("the node's namespace");
        let ask = || {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter it");
            get(address, &probe.path)
        };
        let answer = thread::scope(|scope| scope.spawn(ask).join()).expect("no panic");
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.split(' ').nth(1).and_then(|x| x.parse::<u16>().ok());
        if status.is_some_and(|status| (200..400).contains(&status)) {
            Ok(())
        } else {
            Err(answer)
        }
    }

    /// Starts a container with what its pod says; `more` goes to podman.
    pub(crate) fn launch(&self, pod: &Pod, container: &Container, more: &[&str]) -> Running {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            container.name,
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command.args([
            "--",
            "podman",
            "run",
            "--rm",
            "--pull=never",
            "--network=host",
        ]);
        command.args(["--log-driver=none", "--pids-limit=-1", "--http-proxy=false"]);
        command.args(["--name", &name]);
        command
            .args(rights(container))
            .args(self.mounts(pod, container))
            .args(more);
        command.args(["--env", "KUBERNETES_SERVICE_HOST=10.96.0.1"]);
        command.args(["--env", "KUBERNETES_SERVICE_PORT=443"]);
        for variable in &container.node_name {
            command.args(["--env", &format!("{variable}={}", self.node)]);
        }
        command.arg(format!("{NAME}:{}", tag()));
        command.args(container.args.iter().map(|argument| {
            container
                .node_name
                .iter()
                .fold(argument.clone(), |text, variable| {
                    text.replace(&format!("$({variable})"), &self.node)
                })
        }));
        Running {
            process: Daemon::spawn(&mut command),
            grace: pod.grace,
            name,
        }
    }

    fn mounts(&self, pod: &Pod, container: &Container) -> Vec<String> {
        let account = self.volumes.path().join("account");
        let at = "/var/run/secrets/kubernetes.io/serviceaccount";
        let mut mounts = vec![format!("--volume={}:{at}:ro", account.display())];
        for (volume, at, read_only) in &container.mounts {
            let from = match pod.volume(volume) {
                Volume::ConfigMap(_) => self.volumes.path().join("config"),
                Volume::HostPath(path) => {
                    assert_eq!(path, "/run/kube-ipvs");
                    self.state.clone()
                }
            };
            let mode = if *read_only { ":ro" } else { "" };
            mounts.push(format!("--volume={}:{at}{mode}", from.display()));
        }
        mounts
    }
}

/// A started container; removed on drop.
pub(crate) struct Running {
    name: String,
    process: Daemon,
    grace: u64,
}

impl Running {
    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log has `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        self.process.wait_for_log(text, PATIENCE);
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// A field of the program's `/proc/PID/status`, such as `Seccomp`.
    #[track_caller]
    pub(crate) fn status(&self, field: &str) -> String {
        let file = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| *name == field);
        found.expect("a field of status").1.trim().to_owned()
    }

    /// A file of the container's cgroup, such as `memory.max`.
    #[track_caller]
    pub(crate) fn limit(&self, file: &str) -> String {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).expect("a cgroup");
        let (_, group) = groups
            .trim()
            .split_once("::")
            .expect("the one of version 2");
        let file = format!("/sys/fs/cgroup{group}/{file}");
        let limit = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        limit.trim().to_owned()
    }

    fn pid(&self) -> String {
        let format = ["inspect", "--format", "{{.State.Pid}}", &self.name];
        run("podman", format).trim().to_owned()
    }

    /// SIGTERM, and how it ended; a kubelet waits no longer than the pod says.
    pub(crate) fn stop(mut self) -> ExitStatus {
        run(
            "podman",
            ["stop", "--time", &self.grace.to_string(), &self.name],
        );
        self.wait()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        run("podman", ["kill", "--signal=KILL", &self.name]);
        self.wait();
    }

    #[track_caller]
    fn must_run(&mut self) {
        assert!(self.process.is_running(), "it ended:\n{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.is_running() {
            let _ = Command::new("podman")
                .args(["rm", "--force", "--time=0", &self.name])
                .output();
        }
    }
}

/// The image under test; `cargo xtask container-test` puts it where this is told.
fn load_image() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        let file = std::env::var("KUBE_IPVS_IMAGE").expect("KUBE_IPVS_IMAGE names the archive");
        let said = run("podman", ["load", "--quiet", "--input", &file]);
        assert!(said.contains(&format!("{NAME}:{}", tag())), "{said}");
    });
}

/// What a runtime makes of the security context and the requests.
fn rights(container: &Container) -> Vec<String> {
    let security = &container.security;
    let mut words = Vec::new();
    if security.privileged {
        words.push("--privileged".to_owned());
    }
    if security.read_only {
        words.extend(["--read-only", "--read-only-tmpfs=false"].map(str::to_owned));
    }
    if security.no_new_privileges {
        words.push("--security-opt=no-new-privileges".to_owned());
    }
    if !security.seccomp && !security.privileged {
        words.push("--security-opt=seccomp=unconfined".to_owned());
    }
    words.extend(
        security
            .drop
            .iter()
            .map(|name| format!("--cap-drop={name}")),
    );
    words.extend(security.add.iter().map(|name| format!("--cap-add={name}")));
    if container.cpu > 0 {
        words.push(format!("--cpu-shares={}", container.cpu * 1024 / 1000));
    }
    words
}

/// The certificate that pods find beside their token.
fn authority(server: &ApiServer) -> Vec<u8> {
    let kubeconfig: Value = serde_json::from_str(&server.kubeconfig()).expect("JSON");
    let encoded = &kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"];
    let encoded = encoded.as_str().expect("a server with TLS");
    base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .expect("base64")
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

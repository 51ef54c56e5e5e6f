//! What `kube-ipvs inspect --restore` takes for a big table, beside `ipvsadm -R`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipvs_netlink::Client;
use kube_ipvs_tests::{Namespace, require_ipvs, run_with_input};

use crate::programming::{PORT, TARGET_PORT, table};
use crate::replay::Replay;

const SERVICES: u32 = 10_000;
const REAL_SERVERS: u32 = 2;
/// As many times as fast at least.
const WORST: f64 = 3.0;

pub(crate) fn run() -> Result<bool> {
    require_ipvs();
    let mut rules = String::new();
    let table = table(SERVICES, REAL_SERVERS);
    for (vip, pods) in &table {
        writeln!(rules, "-A -t {vip}:{PORT} -s rr")?;
        for pod in pods {
            writeln!(rules, "-a -t {vip}:{PORT} -r {pod}:{TARGET_PORT} -m -w 1")?;
        }
    }
    let floor = in_namespace(|| {
        let mut replay = Replay::prepare(&table)?;
        let started = Instant::now();
        replay.send()?;
        Ok(started.elapsed())
    })?;
    let theirs = in_namespace(|| {
        let started = Instant::now();
        run_with_input("ipvsadm", ["-R"], &rules);
        Ok(started.elapsed())
    })?;
    let program = std::env::var_os("KUBE_IPVS_BIN").context("KUBE_IPVS_BIN names the program")?;
    let state = tempfile::tempdir()?;
    let ours = in_namespace(|| {
        let started = Instant::now();
        let mut command = Command::new(&program);
        command.args(["inspect", "--restore", "--state-dir"]);
        command.arg(state.path());
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(rules.as_bytes())?;
        drop(stdin);
        ensure!(child.wait()?.success(), "kube-ipvs refused the rules");
        Ok(started.elapsed())
    })?;
    let [ours, theirs, floor] = [ours, theirs, floor].map(|time| time.as_secs_f64());
    println!(
        "restore: {SERVICES} virtual servers x {REAL_SERVERS} real servers: ours {ours:.3} s, \
         ipvsadm {theirs:.3} s, {:.1} times as fast; a bare replay of the messages {floor:.3} s",
        theirs / ours
    );
    Ok(ours <= theirs / WORST)
}

/// Carries rules out in an empty namespace; the table must be there afterwards.
fn in_namespace(restore: impl FnOnce() -> Result<Duration>) -> Result<Duration> {
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let took = restore()?;
    let mut client = Client::open()?;
    ensure!(
        client.services()?.len() == SERVICES as usize,
        "the table is not what was asked for"
    );
    client.flush()?;
    drop(inside);
    drop(namespace);
    // The kernel takes namespaces down in its own time; an idle guest's clock jumps.
    std::thread::sleep(Duration::from_secs(2));
    Ok(took)
}

//! What `kube-ipvs inspect --restore` takes for a big table, beside `ipvsadm -R`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipvs_netlink::Client;
use kube_ipvs_tests::{Namespace, kube_ipvs, require_ipvs, run_with_input};

use crate::programming::{PORT, TARGET_PORT, table};

const SERVICES: u32 = 10_000;
const REAL_SERVERS: u32 = 2;

pub(crate) fn run() -> Result<bool> {
    require_ipvs();
    let mut rules = String::new();
    for (vip, pods) in table(SERVICES, REAL_SERVERS) {
        writeln!(rules, "-A -t {vip}:{PORT} -s rr")?;
        for pod in pods {
            writeln!(rules, "-a -t {vip}:{PORT} -r {pod}:{TARGET_PORT} -m -w 1")?;
        }
    }
    let theirs = in_namespace(|_| {
        run_with_input("ipvsadm", ["-R"], &rules);
        Ok(())
    })?;
    let ours = in_namespace(|namespace| {
        let mut command = kube_ipvs(namespace, ["inspect", "--restore"]);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(rules.as_bytes())?;
        drop(stdin);
        ensure!(child.wait()?.success(), "kube-ipvs refused the rules");
        Ok(())
    })?;
    let [ours, theirs] = [ours, theirs].map(|time| time.as_secs_f64());
    println!(
        "restore: {SERVICES} virtual servers x {REAL_SERVERS} real servers: ours {ours:.3} s, \
         ipvsadm {theirs:.3} s, {:.1} times as fast",
        theirs / ours
    );
    Ok(ours <= theirs / 3.0)
}

/// Carries rules out in an empty namespace; the table must be there afterwards.
fn in_namespace(restore: impl FnOnce(&Namespace) -> Result<()>) -> Result<Duration> {
    let namespace = Namespace::child("bench");
    let inside = namespace.inside();
    let started = Instant::now();
    restore(&namespace)?;
    let took = started.elapsed();
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

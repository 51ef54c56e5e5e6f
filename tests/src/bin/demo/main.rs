//! The main job, visibly: manifests in, a real kernel programmed, requests
//! balanced, an endpoint changed. Run it with `cargo xtask demo`.

mod city;
mod daemon;
mod traffic;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube_ipvs_tests::{Namespace, run, wait_until};

use city::City;
use daemon::Daemon;
use traffic::{Answers, ask_tcp, ask_udp};

const MANIFESTS: [(&str, &str); 3] = [
    (
        "kubernetes.yaml",
        include_str!("../../../demo/kubernetes.yaml"),
    ),
    ("kube-dns.yaml", include_str!("../../../demo/kube-dns.yaml")),
    ("myapp.yaml", include_str!("../../../demo/myapp.yaml")),
];

const API: &str = "10.96.0.1:443";
const DNS: &str = "10.96.0.10:53";
const MYAPP: &str = "10.108.46.110:80";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => {
            say("Done. Everything was as it should be.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let node = Namespace::enter();
    say("1. A node, six pods, and the manifests of a small cluster");
    let city = City::build(&node);
    let directory = tempfile::tempdir()?;
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests)?;
    for (name, text) in MANIFESTS {
        fs::write(manifests.join(name), text)?;
    }
    println!("   pods: {}", city.names().join(", "));

    say("2. kube-ipvs programs the kernel");
    let started = Instant::now();
    let daemon = Daemon::start(&manifests, directory.path())?;
    println!(
        "   ready {} ms after its start",
        started.elapsed().as_millis()
    );
    let before = table()?;
    print_indented(&before);

    say("3. Requests through the VIPs, from a pod");
    balanced(&city)?;

    say("4. One endpoint of myapp goes, another comes");
    let took = change_endpoint(&manifests)?;
    let after = table()?;
    print_difference(&before, &after);
    println!(
        "   in the kernel {} ms after the file was written",
        took.as_millis()
    );
    moved(&city)?;

    say("5. The daemon stops; the kernel goes on serving");
    daemon.stop()?;
    let answer = city
        .client(|| ask_tcp(MYAPP))
        .context("ask myapp without the daemon")?;
    println!("   {MYAPP} still answers: {answer}");
    Ok(())
}

/// Our own listing, after making sure that ipvsadm says the same, byte for byte.
fn table() -> Result<String> {
    let ours = run(&daemon::program(), ["inspect", "-L", "-n"]);
    let theirs = run("ipvsadm", ["-L", "-n"]);
    ensure!(
        ours == theirs,
        "inspect and ipvsadm differ:\n{ours}\n{theirs}"
    );
    Ok(ours)
}

fn balanced(city: &City) -> Result<()> {
    let myapp = Answers::of(city, MYAPP, 6, ask_tcp)?;
    println!("   {MYAPP}  6 requests: {myapp}");
    ensure!(
        myapp.who() == set(["myapp-1", "myapp-2", "myapp-3"]),
        "rr reaches all of myapp"
    );
    let dns = Answers::of(city, DNS, 4, ask_udp)?;
    println!("   {DNS} UDP  4 questions: {dns}");
    ensure!(
        dns.who() == set(["dns-1", "dns-2"]),
        "rr reaches both DNS servers"
    );
    let dns = Answers::of(city, DNS, 2, ask_tcp)?;
    println!("   {DNS} TCP  2 questions: {dns}");
    let api = Answers::of(city, API, 1, ask_tcp)?;
    println!("   {API}  1 request: {api}");
    let host = ask_tcp(MYAPP).context("ask myapp from the node")?;
    println!("   {MYAPP}  from the node itself: {host}");
    Ok(())
}

/// Replaces myapp-3 by myapp-4 in the manifest and waits for the kernel.
fn change_endpoint(manifests: &Path) -> Result<Duration> {
    let file = manifests.join("myapp.yaml");
    let text = fs::read_to_string(&file)?.replace("10.244.0.7", "10.244.0.8");
    let mut next = tempfile::NamedTempFile::new_in(manifests)?;
    next.write_all(text.as_bytes())?;
    let started = Instant::now();
    next.persist(&file)?;
    let mut client = ipvs_netlink::Client::open()?;
    let myapp = ipvs_netlink::ServiceId::tcp([10, 108, 46, 110], 80);
    wait_until(
        "the kernel holds the new endpoint",
        Duration::from_secs(10),
        || {
            let destinations = client.destinations(&myapp).unwrap_or_default();
            destinations
                .iter()
                .any(|d| d.id.address.to_string() == "10.244.0.8")
        },
    );
    Ok(started.elapsed())
}

fn moved(city: &City) -> Result<()> {
    let myapp = Answers::of(city, MYAPP, 6, ask_tcp)?;
    println!("   {MYAPP}  6 requests: {myapp}");
    ensure!(
        myapp.who() == set(["myapp-1", "myapp-2", "myapp-4"]),
        "rr reaches the new endpoint only"
    );
    Ok(())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn say(text: &str) {
    println!("\n{text}");
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}

/// The lines that went and came, in the words of the listing.
fn print_difference(before: &str, after: &str) {
    let lines = |text: &str| -> Vec<String> { text.lines().map(without_counts).collect() };
    let (old, new) = (lines(before), lines(after));
    for line in old.iter().filter(|line| !new.contains(line)) {
        println!("   - {line}");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        println!("   + {line}");
    }
}

/// A server line without its connection counts, which differ anyway.
fn without_counts(line: &str) -> String {
    if line.trim_start().starts_with("->") {
        line.split_whitespace()
            .take(4)
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        line.to_owned()
    }
}

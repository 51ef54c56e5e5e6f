//! Many calls side by side.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_tests::Verdict;

use super::city::City;
use super::table::Cell;

const CALLERS: usize = 12;

/// A call that is to be answered or refused; the guest is slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call that is to be dropped: long enough for an answer, had there been one.
const SILENCE: Duration = Duration::from_millis(700);

/// Each call has a source port of its own, else IPVS on node 1 takes the answer
/// to a call through a VIP of node 2 for one to an earlier call, from the same
/// port, through a NodePort of node 1. Below the ports that kernels pick.
const FIRST_PORT: u16 = 20_000;

/// Tries all cells. Their number, and a line for each wrong one.
pub(super) fn all(city: &City, cells: &[Cell]) -> (usize, Vec<String>) {
    let queue = Mutex::new(cells.iter().zip(FIRST_PORT..));
    let wrong = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no caller panics with it").next();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some((cell, port)) = next() {
                    let found = try_cell(city, cell, port);
                    wrong
                        .lock()
                        .expect("no caller panics with it")
                        .extend(found);
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no caller panicked");
    wrong.sort();
    (cells.len(), wrong)
}

fn try_cell(city: &City, cell: &Cell, port: u16) -> Option<String> {
    let patience = match cell.expected[0].as_str() {
        "dropped" => SILENCE,
        _ => PATIENCE,
    };
    let target = city.target(cell).to_string();
    let client = city.client(cell).port(port).timeout(patience);
    let start = Instant::now();
    let seen = match client.call(cell.protocol, &target) {
        Verdict::Answered { who, saw } => format!("{who}<{}", city.name_of(cell, saw.ip())),
        Verdict::Refused => "refused".to_owned(),
        Verdict::TimedOut => "dropped".to_owned(),
        other => format!("{other:?}"),
    };
    if cell.expected.contains(&seen) {
        return None;
    }
    let took = start.elapsed().as_millis();
    let expected = cell.expected.join(" or ");
    let traces = traces(city, port);
    Some(format!(
        "{cell}: expected {expected}, seen {seen} after {took} ms from port {port}{traces}"
    ))
}

/// What the nodes know of a call from this port, and what they lost so far.
fn traces(city: &City, port: u16) -> String {
    let port = port.to_string();
    let of_port = |line: &&str| line.split(|c: char| !c.is_ascii_digit()).any(|n| n == port);
    let mut text = String::new();
    for (node, number) in city.nodes.iter().zip(1..) {
        let tables = "ipvsadm -Lnc; conntrack -L -f ipv4; conntrack -L -f ipv6";
        let tables = node.namespace.sh(tables);
        let counters = node.namespace.sh("conntrack -S");
        for line in tables.lines().filter(of_port).chain(counters.lines()) {
            text += &format!("\n    node {number}: {line}");
        }
    }
    text
}

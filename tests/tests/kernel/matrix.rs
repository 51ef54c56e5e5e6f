//! Who answers whom, and whom the server sees: every kind of Service address,
//! policy, place of the endpoints, place of the client, protocol, family and
//! binding, against a table that is meant to be read.

pub(crate) mod city;
mod probe;
pub(crate) mod proxy;
mod table;

use std::io::Write;

use kube_ipvs_tests::Protocol;
use kube_ipvs_vip::Binding;

use city::{City, Family};
use table::Cell;

/// Set to `slice`, only TCP by IPv4 with VIPs bound as addresses is tried: what
/// `cargo xtask kernel-test --smoke` has time for.
const PART: &str = "KUBE_IPVS_MATRIX";

/// One line a wrong cell, and at the end `matrix: N cells, M wrong`.
#[test]
fn traffic_goes_where_the_table_says() {
    let slice = std::env::var(PART).is_ok_and(|part| part == "slice");
    let (bindings, enough): (&[&str], _) = if slice {
        (&["address"], 50)
    } else {
        (&["address", "route"], 300)
    };
    let mut cells = 0;
    let mut wrong = Vec::new();
    for binding in bindings {
        let city = City::new(binding);
        city.program();
        let mut tried = cells_of(binding);
        tried.retain(|cell| !slice || (cell.protocol, cell.family) == (Protocol::Tcp, Family::V4));
        let (count, found) = probe::all(&city, &tried);
        cells += count;
        wrong.extend(found);
    }
    let lines = wrong.join("\n");
    // Written to the terminal itself: what passing tests print is not shown.
    let mut terminal = std::io::stdout();
    writeln!(
        terminal,
        "{lines}\nmatrix: {cells} cells, {} wrong",
        wrong.len()
    )
    .expect("write the result");
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{lines}",
        wrong.len()
    );
    assert!(cells >= enough, "only {cells} cells");
}

/// The full product: services are programmed once, and a cell is one call.
fn cells_of(binding: &'static str) -> Vec<Cell> {
    let rows = table::rows();
    let flavours = Family::ALL
        .iter()
        .flat_map(|family| Protocol::ALL.map(|protocol| (protocol, *family)));
    flavours
        .flat_map(|(protocol, family)| {
            rows.iter()
                .flat_map(move |row| row.cells(binding, protocol, family))
        })
        .collect()
}

/// How VIPs are bound on a node with these addresses.
pub(crate) fn binding(name: &str, node: &kube_ipvs_tests::Node) -> Binding {
    match name {
        "address" => Binding::Address,
        "route" => Binding::Route {
            source_v4: Some(node.v4()),
            source_v6: Some(node.v6()),
        },
        other => panic!("no binding {other}"),
    }
}

//! Many calls side by side.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use kube_ipvs_tests::Verdict;

use super::city::City;
use super::table::Cell;

const CALLERS: usize = 12;

/// A call that is to be answered or refused; the guest is slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call that is to be dropped: long enough for an answer, had there been one.
const SILENCE: Duration = Duration::from_millis(700);

/// Tries all cells. Their number, and a line for each wrong one.
pub(super) fn all(city: &City, cells: &[Cell]) -> (usize, Vec<String>) {
    let queue = Mutex::new(cells.iter());
    let wrong = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no caller panics with it").next();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while let Some(cell) = next() {
                    let found = try_cell(city, cell);
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

fn try_cell(city: &City, cell: &Cell) -> Option<String> {
    let patience = match cell.expected[0].as_str() {
        "dropped" => SILENCE,
        _ => PATIENCE,
    };
    let target = city.target(cell).to_string();
    let client = city.client(cell).timeout(patience);
    let seen = match client.call(cell.protocol, &target) {
        Verdict::Answered { who, saw } => format!("{who}<{}", city.name_of(cell, saw.ip())),
        Verdict::Refused => "refused".to_owned(),
        Verdict::TimedOut => "dropped".to_owned(),
        other => format!("{other:?}"),
    };
    let expected = cell.expected.join(" or ");
    (!cell.expected.contains(&seen)).then(|| format!("{cell}: expected {expected}, seen {seen}"))
}

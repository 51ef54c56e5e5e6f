//! What a plan says to the table at one of its steps.

use alloc::boxed::Box;

use crate::plan::Op;
use crate::row::Row;
use crate::state::Front;
use crate::table::Edit;

/// An edit that is made when something is said in it: a change of real servers
/// has none, and nine empty maps are not cheap to make and to drop.
#[derive(Debug, Default)]
pub(super) struct Said(Option<Box<Edit>>);

impl Said {
    /// To say something.
    pub(super) fn get(&mut self) -> &mut Edit {
        self.0.get_or_insert_default()
    }

    /// Changes a row, if it does.
    pub(super) fn turn(&mut self, front: Front, from: &Row, to: &Row) {
        if from != to {
            self.get().turn(front, from, to);
        }
    }

    /// No step where nothing changes.
    pub(super) fn op(self) -> Option<Op> {
        self.0.filter(|edit| !edit.is_empty()).map(Op::Table)
    }
}

//! What of a plan can be done before anybody has to look.

use super::{Op, Plan};

impl Plan {
    /// The stages of the plan, in their order; see [`Self::next_stage`].
    pub fn stages(&self) -> impl Iterator<Item = &[Op]> {
        self.ops.chunk_by(|one, next| {
            let stage = stage_of(one);
            stage != Stage::Alone && stage == stage_of(next)
        })
    }

    /// Takes off what can be done before anybody has to look whether something
    /// was refused: one transaction, one binding of VIPs, or a run of operations
    /// on virtual and real servers of which none removes what another replaces.
    pub fn next_stage(&mut self) -> Option<Self> {
        let stage = stage_of(self.ops.first()?);
        let length = match stage {
            Stage::Alone => 1,
            _ => {
                let ends = self.ops.iter().position(|op| stage_of(op) != stage);
                ends.unwrap_or(self.ops.len())
            }
        };
        // The longer part stays where it is: a cold start's is long.
        let ops = if length < self.ops.len() - length {
            self.ops.drain(..length).collect()
        } else {
            let rest = self.ops.split_off(length);
            core::mem::replace(&mut self.ops, rest)
        };
        Some(Self { ops })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alone,
    In,
    Out,
}

fn stage_of(op: &Op) -> Stage {
    match op {
        Op::Table(_) | Op::BindVips(_) | Op::UnbindVips(_) => Stage::Alone,
        Op::AddVirtualServer(..)
        | Op::EditVirtualServer(..)
        | Op::AddRealServer(..)
        | Op::EditRealServer(..) => Stage::In,
        Op::RemoveVirtualServer(_) | Op::RemoveRealServer(..) => Stage::Out,
    }
}

//! What can go wrong on command.

use std::collections::BTreeMap;
use std::time::Duration;

/// Something for the server to do wrong.
///
/// `Gone`, `Reset` and `Stall` strike the watches that are open now; the
/// others wait for the next requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// History is forgotten and every open watch ends with a 410 event.
    Gone,
    /// History is forgotten and the next `times` requests get HTTP 410.
    GoneStatus {
        /// How many requests.
        times: u32,
    },
    /// Every open watch breaks in the middle of a line.
    Reset,
    /// Every open watch stays connected and says nothing any more.
    Stall,
    /// The next `times` requests get this HTTP status.
    Status {
        /// The HTTP status.
        code: u16,
        /// How many requests.
        times: u32,
        /// Seconds for the `Retry-After` header.
        retry_after: Option<u64>,
    },
    /// The next list is answered as of this resource version, if history
    /// reaches that far back.
    StaleResourceVersion(u64),
    /// Every watch event is sent twice until [`Fault::None`].
    DuplicateEvents,
    /// Watch events that wait together are sent in reverse until
    /// [`Fault::None`].
    OutOfOrder,
    /// The next list, streamed or paged, claims that there is nothing.
    EmptyList,
    /// Every response waits this long until [`Fault::None`].
    Slow(Duration),
    /// Ends every lasting fault.
    None,
}

impl Fault {
    /// The next `times` requests get this HTTP status, without `Retry-After`.
    pub fn status(code: u16, times: u32) -> Self {
        Self::Status {
            code,
            times,
            retry_after: None,
        }
    }
}

/// What to tell the watches that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    Gone,
    Reset,
    Stall,
    /// The end of the answer.
    End,
}

/// Faults that wait for their request. The key is a resource, or empty for all.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pending: Vec<(String, Fault)>,
    denied: BTreeMap<(String, String), ()>,
}

impl Faults {
    pub(super) fn push(&mut self, resource: &str, fault: Fault) {
        if fault == Fault::None {
            let lasting = |fault: &Fault| {
                matches!(
                    fault,
                    Fault::DuplicateEvents | Fault::OutOfOrder | Fault::Slow(_)
                )
            };
            self.pending.retain(|(at, pending)| {
                !(lasting(pending) && (resource.is_empty() || at == resource))
            });
            return;
        }
        self.pending.push((resource.to_owned(), fault));
    }

    /// Ends all faults and denials.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn deny(&mut self, verb: &str, resource: &str) {
        self.denied
            .insert((verb.to_owned(), resource.to_owned()), ());
    }

    pub(super) fn allow(&mut self, verb: &str, resource: &str) {
        self.denied.remove(&(verb.to_owned(), resource.to_owned()));
    }

    pub(super) fn denies(&self, verb: &str, resource: &str) -> bool {
        self.denied
            .contains_key(&(verb.to_owned(), resource.to_owned()))
    }

    /// The HTTP status the next request for a resource fails with, if any.
    pub(super) fn take_status(&mut self, resource: &str) -> Option<(u16, Option<u64>)> {
        let index = self.position(resource, |fault| {
            matches!(fault, Fault::Status { .. } | Fault::GoneStatus { .. })
        })?;
        let (answer, times) = match &mut self.pending[index].1 {
            Fault::Status {
                code,
                times,
                retry_after,
            } => ((*code, *retry_after), times),
            Fault::GoneStatus { times } => ((410, None), times),
            _ => return None,
        };
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.pending.remove(index);
        }
        Some(answer)
    }

    /// True once if the next list is to be empty.
    pub(super) fn take_empty_list(&mut self, resource: &str) -> bool {
        let index = self.position(resource, |fault| *fault == Fault::EmptyList);
        index.map(|index| self.pending.remove(index)).is_some()
    }

    /// The resource version the next list is to be answered as of.
    pub(super) fn take_stale(&mut self, resource: &str) -> Option<u64> {
        let index = self.position(resource, |fault| {
            matches!(fault, Fault::StaleResourceVersion(_))
        })?;
        match self.pending.remove(index).1 {
            Fault::StaleResourceVersion(version) => Some(version),
            _ => None,
        }
    }

    pub(super) fn duplicates(&self, resource: &str) -> bool {
        self.position(resource, |fault| *fault == Fault::DuplicateEvents)
            .is_some()
    }

    pub(super) fn reorders(&self, resource: &str) -> bool {
        self.position(resource, |fault| *fault == Fault::OutOfOrder)
            .is_some()
    }

    pub(super) fn delay(&self, resource: &str) -> Duration {
        let index = self.position(resource, |fault| matches!(fault, Fault::Slow(_)));
        match index.map(|index| &self.pending[index].1) {
            Some(Fault::Slow(delay)) => *delay,
            _ => Duration::ZERO,
        }
    }

    fn position(&self, resource: &str, wanted: impl Fn(&Fault) -> bool) -> Option<usize> {
        self.pending
            .iter()
            .position(|(at, fault)| (at.is_empty() || at == resource) && wanted(fault))
    }
}

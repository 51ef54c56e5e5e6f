//! Names of schedulers.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::ops::Deref;

use crate::options::SCHEDULERS;

/// The name of a scheduler of the kernel: `rr`, `mh`, ... One that is known
/// takes no memory of its own: each virtual server has one.
#[derive(Clone, PartialEq, Eq)]
pub struct Scheduler(Name);

#[derive(Clone, PartialEq, Eq)]
enum Name {
    /// Its place in [`SCHEDULERS`].
    Known(u8),
    /// One of a later kernel.
    Other(Box<str>),
}

impl Scheduler {
    /// As the kernel and `ipvsadm` call it.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Known(place) => SCHEDULERS[usize::from(*place)],
            Name::Other(name) => name,
        }
    }
}

impl From<&str> for Scheduler {
    fn from(name: &str) -> Self {
        let known = SCHEDULERS.into_iter().position(|known| known == name);
        let known = known.and_then(|place| u8::try_from(place).ok());
        Self(known.map_or_else(|| Name::Other(name.into()), Name::Known))
    }
}

impl Deref for Scheduler {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Scheduler {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Scheduler {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl From<Scheduler> for String {
    fn from(scheduler: Scheduler) -> Self {
        scheduler.as_str().into()
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_scheduler_is_what_it_is_called_whether_it_is_known_or_not() {
        for name in SCHEDULERS.into_iter().chain(["", "later"]) {
            let scheduler = Scheduler::from(name);
            assert_eq!(scheduler, *name);
            assert_eq!(scheduler.to_string(), name);
            assert_eq!(scheduler, Scheduler::from(scheduler.as_str()));
        }
        assert_ne!(Scheduler::from("wrr"), Scheduler::from("rr"));
        assert_eq!(size_of::<Scheduler>(), size_of::<&str>());
    }
}

//! Classes of fronts: what is said of packets to a front is the chain that they
//! go to.

use std::fmt;

use crate::Set;

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Nothing is said of it: the guard of the address refuses it, if the address
    /// has one.
    #[default]
    Closed,
    /// IPVS takes it, or this host.
    Served,
    /// Dropped if it comes from outside.
    Outside,
    /// Refused at once.
    Refused,
}

/// Whether the client's address is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Masquerading {
    /// It is kept.
    #[default]
    Never,
    /// Unless a local pod sent it.
    OffCluster,
    /// In any case.
    Always,
}

/// A class of fronts, and its chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// What becomes of new connections.
    pub fate: Fate,
    /// Whether the client's address is replaced.
    pub masquerading: Masquerading,
    /// Only sources in [`Set::AllowedSources`] may.
    pub restricted: bool,
}

/// The chains, in the order of fate, masquerading, restriction.
const NAMES: [&str; 24] = [
    "closed",
    "closed-restricted",
    "closed-off-cluster",
    "closed-off-cluster-restricted",
    "closed-always",
    "closed-always-restricted",
    "served",
    "served-restricted",
    "served-off-cluster",
    "served-off-cluster-restricted",
    "served-always",
    "served-always-restricted",
    "outside",
    "outside-restricted",
    "outside-off-cluster",
    "outside-off-cluster-restricted",
    "outside-always",
    "outside-always-restricted",
    "refused",
    "refused-restricted",
    "refused-off-cluster",
    "refused-off-cluster-restricted",
    "refused-always",
    "refused-always-restricted",
];

impl Class {
    /// The classes of most fronts, ClusterIPs that are served, without and with
    /// masquerading off the cluster. They stand in sets of their own, since the
    /// kernel goes through all of a map from front to chain when a front comes
    /// into it.
    pub const USUAL: [(Self, Set); 2] = [
        (Self::served(Masquerading::Never), Set::Served),
        (
            Self::served(Masquerading::OffCluster),
            Set::ServedOffCluster,
        ),
    ];

    const fn served(masquerading: Masquerading) -> Self {
        Self {
            fate: Fate::Served,
            masquerading,
            restricted: false,
        }
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let fates = [Fate::Closed, Fate::Served, Fate::Outside, Fate::Refused];
        let masquerading = [
            Masquerading::Never,
            Masquerading::OffCluster,
            Masquerading::Always,
        ];
        let pairs = fates
            .into_iter()
            .flat_map(move |fate| masquerading.map(|masquerading| (fate, masquerading)));
        pairs.flat_map(|(fate, masquerading)| {
            [false, true].map(|restricted| Self {
                fate,
                masquerading,
                restricted,
            })
        })
    }

    /// The name of the chain: `served-off-cluster`.
    pub fn name(self) -> &'static str {
        let pair = self.fate as usize * 3 + self.masquerading as usize;
        NAMES[pair * 2 + usize::from(self.restricted)]
    }

    /// The class with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|class| class.name() == name)
    }

    /// Where a front of the class stands, and how: `10.96.0.10 . tcp . 80` in a set
    /// if it is [usual](Self::USUAL) and not `marked`, which says whether it stands
    /// in a map of marks; or `10.96.0.10 . tcp . 80 : goto refused`. None if nothing
    /// is said of it.
    pub fn element(self, front: &str, marked: bool) -> Option<(Set, String)> {
        let mut usual = Self::USUAL.into_iter();
        let (_, set) = usual.find(|(class, _)| *class == self).unzip();
        if let Some(set) = set.filter(|_| !marked) {
            return Some((set, front.to_owned()));
        }
        (self != Self::default()).then(|| (Set::Fronts, format!("{front} : goto {self}")))
    }

    /// The same without restriction to sources.
    pub(crate) fn unrestricted(self) -> Self {
        Self {
            restricted: false,
            ..self
        }
    }
}

impl fmt::Display for Class {
    /// The [name](Self::name) of the chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_name_of_its_own() {
        assert_eq!(Class::all().count(), NAMES.len());
        for (class, name) in Class::all().zip(NAMES) {
            assert_eq!(class.name(), name);
            assert_eq!(Class::from_name(name), Some(class));
        }
        assert_eq!(Class::from_name("guard"), None);
    }

    #[test]
    fn a_usual_front_stands_in_a_set_unless_it_has_a_mark() {
        let front = "10.96.0.10 . tcp . 80";
        let refused = Class {
            fate: Fate::Refused,
            ..Class::default()
        };
        let element = |class: Class, marked| class.element(front, marked);
        for (class, set) in Class::USUAL {
            assert_eq!(class.name(), set.name());
            assert_eq!(element(class, false), Some((set, front.to_owned())));
            let goto = format!("{front} : goto {class}");
            assert_eq!(element(class, true), Some((Set::Fronts, goto)));
        }
        assert_eq!(
            element(refused, false),
            Some((Set::Fronts, format!("{front} : goto refused")))
        );
        assert_eq!(element(Class::default(), true), None);
    }
}

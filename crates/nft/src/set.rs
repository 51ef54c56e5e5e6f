//! Names and types of our sets and maps.

use std::collections::{BTreeMap, BTreeSet};

use crate::Family;
use crate::wire::{Order, SetSpec, Values};

/// A set or map of our table. The chains that read them are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Addresses the guard watches: `10.96.0.10`.
    Vips,
    /// Fronts of the class of this name, without a mark: `10.96.0.10 . udp . 53`.
    /// See [`Class::USUAL`](crate::Class::USUAL).
    Served,
    /// The same.
    ServedOffCluster,
    /// Map from any other front to its [class](crate::Class):
    /// `10.96.0.10 . udp . 53 : goto refused`.
    Fronts,
    /// Map from front to the mark of traffic from inside: `10.96.0.10 . tcp . 80 : 0x00000123`.
    InsideMarks,
    /// Map from front to the mark of all of its traffic: NodePorts that are not a
    /// virtual server an address.
    NodePortMarks,
    /// Endpoints on this node, an address each: what they send to themselves is masqueraded.
    Hairpin,
    /// The sources that may use a front of a restricted class: `10.96.0.10 . tcp . 80 . 192.0.2.0/24`.
    AllowedSources,
    /// Networks that lead nowhere, but for the addresses of this host in them:
    /// `10.96.0.0/16`.
    ServiceCidrs,
    /// Fronts to which packets of pods, where those are known, pass untracked, but
    /// for what comes from [`Self::UntrackedOwn`]: `10.96.0.10 . udp . 53`. Like the
    /// next two it is there only where
    /// [`Config::untracked`](crate::Config::untracked) says so.
    UntrackedFronts,
    /// Endpoints behind them, `10.244.1.7 . udp . 53`: to them and from them
    /// packets pass untracked, but for what is of the next set; between pods alone,
    /// where those are known by networks.
    UntrackedEndpoints,
    /// Addresses of this host, and of those endpoints that are on this node, which
    /// may meet themselves: `10.244.1.7`.
    UntrackedOwn,
}

/// What stands in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Address,
    Front,
    Class,
    Mark,
    Pair,
    Source,
    Network,
}

impl Set {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 12] = [
        Self::Vips,
        Self::Served,
        Self::ServedOffCluster,
        Self::Fronts,
        Self::InsideMarks,
        Self::NodePortMarks,
        Self::Hairpin,
        Self::AllowedSources,
        Self::ServiceCidrs,
        Self::UntrackedFronts,
        Self::UntrackedEndpoints,
        Self::UntrackedOwn,
    ];

    /// Those that say what is not tracked.
    pub(crate) const UNTRACKED: [Self; 3] = [
        Self::UntrackedFronts,
        Self::UntrackedEndpoints,
        Self::UntrackedOwn,
    ];

    /// The maps from front to mark.
    pub(crate) const MARKS: [Self; 2] = [Self::InsideMarks, Self::NodePortMarks];

    /// The name, here and in the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vips => "vips",
            Self::Served => "served",
            Self::ServedOffCluster => "served-off-cluster",
            Self::Fronts => "fronts",
            Self::InsideMarks => "inside-marks",
            Self::NodePortMarks => "node-port-marks",
            Self::Hairpin => "hairpin",
            Self::AllowedSources => "allowed-sources",
            Self::ServiceCidrs => "service-cidrs",
            Self::UntrackedFronts => "untracked-fronts",
            Self::UntrackedEndpoints => "untracked-endpoints",
            Self::UntrackedOwn => "untracked-own",
        }
    }

    /// The set with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Vips | Self::UntrackedOwn => Shape::Address,
            Self::Hairpin => Shape::Pair,
            Self::Fronts => Shape::Class,
            Self::InsideMarks | Self::NodePortMarks => Shape::Mark,
            Self::AllowedSources => Shape::Source,
            Self::ServiceCidrs => Shape::Network,
            Self::Served
            | Self::ServedOffCluster
            | Self::UntrackedFronts
            | Self::UntrackedEndpoints => Shape::Front,
        }
    }

    /// What it is made of.
    pub(crate) fn spec(self, family: Family) -> SetSpec {
        let address = match family {
            Family::Ip => (ADDRESS_V4, 4),
            Family::Ip6 => (ADDRESS_V6, 16),
        };
        let front = [address, (PROTOCOL, 1), (PORT, 2)];
        let shape = self.shape();
        let parts = match shape {
            Shape::Address | Shape::Network => vec![address],
            Shape::Front | Shape::Class | Shape::Mark => front.into(),
            Shape::Pair => vec![address, address],
            Shape::Source => [&front[..], &[address]].concat(),
        };
        SetSpec {
            order: if parts.len() == 1 {
                Order::Network
            } else {
                Order::None
            },
            parts,
            values: match shape {
                Shape::Class => Some(Values::VERDICTS),
                Shape::Mark => Some(Values::MARKS),
                _ => None,
            },
            intervals: matches!(shape, Shape::Network | Shape::Source),
            constant: None,
        }
    }
}

/// The set of all marks.
pub(crate) fn mark_values() -> SetSpec {
    SetSpec {
        parts: vec![(MARK, 4)],
        order: Order::Host,
        values: None,
        intervals: false,
        constant: None,
    }
}

// Types by the numbers of nft (`enum datatypes` of its include/datatype.h). The
// kernel keeps them for it.
pub(crate) const ADDRESS_V4: u32 = 7;
pub(crate) const ADDRESS_V6: u32 = 8;
pub(crate) const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
pub(crate) const ICMP_TYPE: u32 = 14;
pub(crate) const MARK: u32 = 19;
pub(crate) const ICMPV6_TYPE: u32 = 29;

/// Elements by set, in canonical text: lower-case protocol names, marks of eight
/// hexadecimal digits, networks with their prefix length and no host bits.
/// A set that is absent is empty.
pub type Elements = BTreeMap<Set, BTreeSet<String>>;

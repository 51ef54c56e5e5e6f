//! Elements: from canonical text, checked, to the text nft reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::set::Shape;
use crate::{Class, Elements, Family, Set};

/// Something that must not reach the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A mark has 32 bits.
    #[error("mark bit {0}: a packet mark has bits 0 to 31")]
    Bit(u8),
    /// Two meanings for one bit.
    #[error(
        "mark bit {0}: used for masquerading and for accepting, choose another for one of them"
    )]
    SameBit(u8),
    /// The name is empty, too long, or has a character that nft could misread.
    #[error("interface name {0:?}: 1 to 15 visible ASCII characters, none of \" \\ * / : $")]
    Interface(String),
    /// The mark is not there when this chain is asked.
    #[error("{0}: out of reach, our mark stands between priorities -1 and 50 only")]
    Unreachable(String),
    /// Not the canonical text of such an element.
    #[error("set {set}: element {element:?}: expected {expected}", set = set.name())]
    Element {
        /// The set.
        set: Set,
        /// The text as given.
        element: String,
        /// How one looks.
        expected: &'static str,
    },
    /// The element belongs to the other family's table.
    #[error("set {set}: element {element:?} does not belong to family {family}", set = set.name())]
    Family {
        /// The set.
        set: Set,
        /// The text as given.
        element: String,
        /// Family of the table.
        family: Family,
    },
    /// IPVS compares the whole mark, so it must not contain a bit that means something else.
    #[error(
        "set {set}: element {element:?}: mark 0, or it contains the accept bit or, without a \
         need, the masquerade bit",
        set = set.name()
    )]
    Mark {
        /// The map.
        set: Set,
        /// The text as given.
        element: String,
    },
    /// A map has one value for a key.
    #[error("set {set}: {first:?} and {second:?}: two marks for one front", set = set.name())]
    TwoMarks {
        /// The map.
        set: Set,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A front has one class.
    #[error("set fronts: {first:?} and {second:?}: two classes for one front")]
    TwoClasses {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// The kernel refuses networks of a set that overlap.
    #[error("set service-cidrs: {wide} contains {narrow}: aggregate the networks first")]
    OverlappingNetworks {
        /// The wider network.
        wide: IpNet,
        /// The network inside it.
        narrow: IpNet,
    },
    /// The kernel refuses networks of one front that overlap.
    #[error(
        "set allowed-sources: {wide:?} contains {narrow:?}: aggregate the networks of a front first"
    )]
    Overlap {
        /// The wider network.
        wide: String,
        /// The network inside it.
        narrow: String,
    },
}

/// An address, protocol and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Front {
    pub(crate) address: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Neighbouring ports of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ports {
    pub(crate) front: Front,
    pub(crate) last: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| *p as u8 == number)
    }
}

/// An element, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    Address(IpAddr),
    Front(Front),
    Class(Front, Class),
    Mark(Front, u32),
    Source(Ports, IpNet),
    Network(IpNet),
}

impl Element {
    /// Parses canonical text; anything that would be printed otherwise is refused.
    pub(crate) fn parse(set: Set, family: Family, text: &str) -> Result<Self, Invalid> {
        let element = parse(set.shape(), text)
            .filter(|element| element.to_string() == text)
            .ok_or_else(|| Invalid::Element {
                set,
                element: text.to_owned(),
                expected: expected(set.shape()),
            })?;
        if element.is_of(family) {
            Ok(element)
        } else {
            Err(Invalid::Family {
                set,
                element: text.to_owned(),
                family,
            })
        }
    }

    fn is_of(&self, family: Family) -> bool {
        let of = |address: IpAddr| address.is_ipv4() == (family == Family::Ip);
        match self {
            Self::Address(address) => of(*address),
            Self::Front(front) | Self::Class(front, _) | Self::Mark(front, _) => of(front.address),
            Self::Source(ports, net) => of(ports.front.address) && of(net.addr()),
            Self::Network(net) => of(net.addr()),
        }
    }
}

impl Ports {
    /// What stands behind the first port: `-90`, or nothing where it is the last.
    fn end(&self) -> String {
        if self.front.port < self.last {
            format!("-{}", self.last)
        } else {
            String::new()
        }
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} . {} . {}",
            self.address,
            self.protocol.name(),
            self.port
        )
    }
}

impl fmt::Display for Element {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Front(front) => front.fmt(f),
            Self::Class(front, class) => write!(f, "{front} : goto {class}"),
            Self::Mark(front, mark) => write!(f, "{front} : {mark:#010x}"),
            Self::Network(net) => net.fmt(f),
            Self::Source(ports, net) => write!(f, "{}{} . {net}", ports.front, ports.end()),
        }
    }
}

fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::Address | Shape::Pair => "an address: 10.96.0.10",
        Shape::Front => "address, protocol and port: 10.96.0.10 . tcp . 80",
        Shape::Class => "a front and the chain of its class: 10.96.0.10 . tcp . 80 : goto refused",
        Shape::Mark => "a front and its mark: 10.96.0.10 . tcp . 80 : 0x00000123",
        Shape::Network => "a network: 10.96.0.0/16",
        Shape::Source => {
            "a front and a network: 10.96.0.10 . tcp . 80 . 192.0.2.0/24, or 80-90 for the port"
        }
    }
}

fn parse(shape: Shape, text: &str) -> Option<Element> {
    match shape {
        Shape::Address | Shape::Pair => Some(Element::Address(text.parse().ok()?)),
        Shape::Front => Some(Element::Front(parse_front(text)?)),
        Shape::Class => {
            let (front, class) = text.split_once(" : goto ")?;
            Some(Element::Class(
                parse_front(front)?,
                Class::from_name(class)?,
            ))
        }
        Shape::Mark => {
            let (front, mark) = text.split_once(" : ")?;
            let mark = u32::from_str_radix(mark.strip_prefix("0x")?, 16).ok()?;
            Some(Element::Mark(parse_front(front)?, mark))
        }
        Shape::Network => {
            let net: IpNet = text.parse().ok()?;
            (net.trunc() == net).then_some(Element::Network(net))
        }
        Shape::Source => {
            let (ports, net) = text.rsplit_once(" . ")?;
            let net: IpNet = net.parse().ok()?;
            (net.trunc() == net).then_some(())?;
            Some(Element::Source(parse_ports(ports)?, net))
        }
    }
}

fn parse_ports(text: &str) -> Option<Ports> {
    let (front, last) = match text.rsplit_once('-') {
        Some((front, last)) => (parse_front(front)?, Some(last.parse().ok()?)),
        None => (parse_front(text)?, None),
    };
    let last = last.unwrap_or(front.port);
    (front.port <= last).then_some(Ports { front, last })
}

fn parse_front(text: &str) -> Option<Front> {
    let mut parts = text.split(" . ");
    let front = Front {
        address: parts.next()?.parse().ok()?,
        protocol: Protocol::from_name(parts.next()?)?,
        port: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(front)
}

/// Parses the elements of one family and checks what holds between them.
pub(crate) fn parse_all(
    family: Family,
    allowed: impl Fn(Set, u32) -> bool,
    elements: &Elements,
) -> Result<BTreeMap<Set, Vec<Element>>, Invalid> {
    let mut parsed = BTreeMap::new();
    for (&set, texts) in elements {
        let mut list = texts
            .iter()
            .map(|text| Element::parse(set, family, text))
            .collect::<Result<Vec<_>, _>>()?;
        list.sort_unstable();
        check_classes(&list)?;
        check_marks(set, &list, &allowed)?;
        check_overlap(&list)?;
        parsed.insert(set, list);
    }
    Ok(parsed)
}

/// Checks elements without rendering them: syntax, family, marks, overlap.
///
/// # Errors
/// The first element that must not reach the kernel.
pub fn check(config: &crate::Config, elements: &Elements) -> Result<(), Invalid> {
    let allowed = |set, mark| config.may_mark(set, mark);
    parse_all(config.family, allowed, elements).map(drop)
}

fn check_classes(sorted: &[Element]) -> Result<(), Invalid> {
    for pair in sorted.windows(2) {
        if let [Element::Class(one, _), Element::Class(other, _)] = pair
            && one == other
        {
            return Err(Invalid::TwoClasses {
                first: pair[0].to_string(),
                second: pair[1].to_string(),
            });
        }
    }
    Ok(())
}

fn check_marks(
    set: Set,
    sorted: &[Element],
    allowed: &impl Fn(Set, u32) -> bool,
) -> Result<(), Invalid> {
    let mut previous: Option<&Element> = None;
    for element in sorted {
        let Element::Mark(front, mark) = element else {
            continue;
        };
        if !allowed(set, *mark) {
            return Err(Invalid::Mark {
                set,
                element: element.to_string(),
            });
        }
        if let Some(first @ Element::Mark(other, _)) = previous
            && other == front
        {
            return Err(Invalid::TwoMarks {
                set,
                first: first.to_string(),
                second: element.to_string(),
            });
        }
        previous = Some(element);
    }
    Ok(())
}

/// In sorted order a network stands right before those it contains.
fn check_overlap(sorted: &[Element]) -> Result<(), Invalid> {
    for pair in sorted.windows(2) {
        if let [Element::Network(wide), Element::Network(narrow)] = pair
            && wide.contains(narrow)
        {
            return Err(Invalid::OverlappingNetworks {
                wide: *wide,
                narrow: *narrow,
            });
        }
        if let [Element::Source(ports, wide), Element::Source(other, narrow)] = pair
            && ports == other
            && wide.contains(narrow)
        {
            return Err(Invalid::Overlap {
                wide: pair[0].to_string(),
                narrow: pair[1].to_string(),
            });
        }
    }
    Ok(())
}

/// Networks of one front as the kernel takes them: host bits cleared, what is
/// contained in another left out, neighbours joined.
pub fn aggregate(networks: impl IntoIterator<Item = IpNet>) -> BTreeSet<IpNet> {
    let truncated: Vec<IpNet> = networks.into_iter().map(|net| net.trunc()).collect();
    IpNet::aggregate(&truncated).into_iter().collect()
}

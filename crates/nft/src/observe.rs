//! Our table as the kernel holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use crate::element::{Element, Front, Ports, Protocol};
use crate::fixed::{FINGERPRINT_CHAIN, Fixed, MARK_VALUES};
use crate::json::{Listing, SetObject};
use crate::set::Shape;
use crate::{Config, Elements, Family, Invalid, Set};

/// What was read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the table calls its fixed part; none when it is not our making.
    pub fingerprint: Option<String>,
    /// Elements, as canonical text. Sets without elements are absent.
    pub elements: Elements,
    /// Every chain and the number of its rules.
    pub rules: BTreeMap<String, usize>,
    /// Elements that no table of ours holds, sets that are missing: a foreign
    /// hand. Only [`render_table`](crate::render_table) sets that right.
    pub strange: Vec<String>,
}

impl Observed {
    /// Chains, rules and sets are those of this configuration, so a change can
    /// be applied; otherwise the whole table must be put in place.
    ///
    /// # Errors
    /// A configuration that makes no sense.
    pub fn is_intact(&self, config: &Config) -> Result<bool, Invalid> {
        let fixed = Fixed::new(config)?;
        Ok(self.strange.is_empty()
            && self.fingerprint.as_ref() == Some(&fixed.fingerprint)
            && self.rules == fixed.rules)
    }

    pub(crate) fn from_listing(family: Family, listing: &Listing) -> Self {
        let mut observed = Self::default();
        for chain in &listing.chains {
            observed.rules.insert(chain.name.clone(), 0);
            if let Some(fingerprint) = chain.name.strip_prefix(FINGERPRINT_CHAIN) {
                observed.fingerprint = Some(fingerprint.to_owned());
            }
        }
        for rule in &listing.rules {
            *observed.rules.entry(rule.chain.clone()).or_default() += 1;
        }
        observed.take_sets(family, &listing.sets);
        observed
    }

    fn take_sets(&mut self, family: Family, sets: &[SetObject]) {
        let mut missing: BTreeSet<Set> = Set::ALL.into();
        let (mut marks, mut values) = (BTreeSet::new(), None);
        for object in sets {
            if object.name == MARK_VALUES {
                values = Some(object.elem.iter().filter_map(number).collect());
            } else if let Some(set) = Set::from_kernel_name(&object.name) {
                missing.remove(&set);
                for value in &object.elem {
                    self.take_element(family, set, value, &mut marks);
                }
            } else {
                self.strange.push(format!("set {}", object.name));
            }
        }
        let absent = missing
            .iter()
            .map(|set| format!("no set {}", set.kernel_name()));
        self.strange.extend(absent);
        if values.as_ref() != Some(&marks) {
            self.strange
                .push(format!("set {MARK_VALUES} is not the values of the maps"));
        }
    }

    fn take_element(&mut self, family: Family, set: Set, value: &Value, marks: &mut BTreeSet<u64>) {
        let elements = read(set.shape(), value).unwrap_or_default();
        if elements.is_empty() {
            self.strange
                .push(format!("set {}: {value}", set.kernel_name()));
        }
        for element in elements {
            if let Element::Mark(_, mark) = element {
                marks.insert(u64::from(mark));
            }
            let text = element.to_string();
            match Element::parse(set, family, &text) {
                Ok(_) => drop(self.elements.entry(set).or_default().insert(text)),
                Err(error) => self.strange.push(error.to_string()),
            }
        }
    }
}

/// Reads one element. A range of networks becomes several.
fn read(shape: Shape, value: &Value) -> Option<Vec<Element>> {
    match shape {
        Shape::Address => Some(vec![Element::Address(address(value)?)]),
        Shape::Pair => match concat(value)? {
            [one, other] if one == other => Some(vec![Element::Address(address(one)?)]),
            _ => None,
        },
        Shape::Front => Some(vec![Element::Front(front(concat(value)?)?)]),
        Shape::Mark => {
            let [key, mark] = value.as_array()?.as_slice() else {
                return None;
            };
            let mark = u32::try_from(number(mark)?).ok()?;
            Some(vec![Element::Mark(front(concat(key)?)?, mark)])
        }
        Shape::Network => {
            let networks = networks(bare(value))?.into_iter();
            Some(networks.map(Element::Network).collect())
        }
        Shape::Source => {
            let (source, parts) = concat(value)?.split_last()?;
            let ports = ports(parts)?;
            let sources = networks(source)?.into_iter();
            Some(sources.map(|net| Element::Source(ports, net)).collect())
        }
    }
}

/// An element with time-out, counter or comment stands inside an object.
fn bare(value: &Value) -> &Value {
    value.pointer("/elem/val").unwrap_or(value)
}

fn concat(value: &Value) -> Option<&[Value]> {
    bare(value).get("concat")?.as_array().map(Vec::as_slice)
}

fn address(value: &Value) -> Option<IpAddr> {
    bare(value).as_str()?.parse().ok()
}

fn number(value: &Value) -> Option<u64> {
    bare(value).as_u64()
}

fn front(parts: &[Value]) -> Option<Front> {
    let ports = ports(parts)?;
    (ports.front.port == ports.last).then_some(ports.front)
}

/// A front, or `{"range": [80, 90]}` in the place of its port.
fn ports(parts: &[Value]) -> Option<Ports> {
    let [address, protocol, port] = parts else {
        return None;
    };
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let (first, last) = match port.get("range").and_then(Value::as_array) {
        Some(range) => match range.as_slice() {
            [first, last] => (number(first)?, number(last)?),
            _ => return None,
        },
        None => (number(port)?, number(port)?),
    };
    let protocol = match protocol {
        Value::String(name) => Protocol::from_name(name)?,
        // nft has no names without /etc/protocols.
        other => Protocol::from_number(other.as_u64()?)?,
    };
    let front = Front {
        address: address.as_str()?.parse().ok()?,
        protocol,
        port: first,
    };
    Some(Ports { front, last })
}

/// `"192.0.2.1"`, `{"prefix": {"addr": .., "len": ..}}` or `{"range": [.., ..]}`.
fn networks(value: &Value) -> Option<Vec<IpNet>> {
    if let Some(address) = value.as_str() {
        return Some(vec![IpNet::from(address.parse::<IpAddr>().ok()?)]);
    }
    if let Some(prefix) = value.get("prefix") {
        let address = prefix.get("addr")?.as_str()?.parse().ok()?;
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        return Some(vec![IpNet::new(address, length).ok()?]);
    }
    let [first, last] = value.get("range")?.as_array()?.as_slice() else {
        return None;
    };
    match (first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect()),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some(Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect()),
        _ => None,
    }
}

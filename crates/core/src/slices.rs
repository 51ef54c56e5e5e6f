//! EndpointSlices as the cluster keeps them: parsed once, small.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::num::{NonZeroI64, NonZeroU16};

use crate::event::Kind;
use crate::k8s::{self, EndpointAddress, TRIGGER_TIME_ANNOTATION, WEIGHT_ANNOTATION};
use crate::names::Warning;
use crate::options::{NOT_HONOURED, Options};
use crate::read::{self, Quoted};
use crate::regarding::Regarding;
use crate::state::{Family, Protocol};
use crate::warnings::Warnings;

/// A slice of one address family.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Family of all its endpoints.
    pub(crate) family: Family,
    /// Ports all endpoints have, by name and protocol.
    pub(crate) ports: Box<[SlicePort]>,
    /// Endpoints.
    pub(crate) endpoints: Box<[Endpoint]>,
    /// Zones its endpoints are in; an [`Endpoint::zone`] counts them from 1.
    zones: Box<[Arc<str>]>,
    /// Lists of zones that should use an endpoint, each once; an
    /// [`Endpoint::hints`] counts them from 1.
    hints: Box<[Zones]>,
    /// Share of new connections of each endpoint, if it is said.
    pub(crate) weight: Option<NonZeroU16>,
    /// When something of it changed, as it says: milliseconds of Unix time.
    pub(crate) changed: Option<NonZeroI64>,
    /// What could not be used.
    pub(crate) warnings: Box<[Warning]>,
}

/// What is the same but for the time of its last change is the same: the time
/// only says how old endpoints are that were not there before.
impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        let parts = |slice: &Self| (slice.family, slice.weight);
        parts(self) == parts(other)
            && self.ports == other.ports
            && self.endpoints == other.endpoints
            && self.zones == other.zones
            && self.hints == other.hints
            && self.warnings == other.warnings
    }
}

impl Slice {
    /// The numbers of a port. Costs little where there are many ports.
    pub(crate) fn numbers(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        let wanted = (name, protocol);
        let first = self.ports.partition_point(|port| port.key() < wanted);
        let same = self.ports[first..].iter();
        same.take_while(move |port| port.key() == wanted)
            .map(|port| port.port)
    }

    /// The zone of one of its endpoints.
    pub(crate) fn zone_of(&self, endpoint: &Endpoint) -> Option<&str> {
        let place = endpoint.zone.checked_sub(1)?;
        self.zones.get(usize::from(place)).map(|zone| &**zone)
    }

    /// The zones that should use one of its endpoints; none is not said.
    pub(crate) fn hints_of(&self, endpoint: &Endpoint) -> &[Arc<str>] {
        let place = endpoint.hints.checked_sub(1);
        let hints = place.and_then(|place| self.hints.get(usize::from(place)));
        hints.map_or(&[], |zones| zones)
    }

    fn empty(warnings: Vec<Warning>) -> Self {
        Self {
            family: Family::V4,
            ports: Box::default(),
            endpoints: Box::default(),
            zones: Box::default(),
            hints: Box::default(),
            weight: None,
            changed: None,
            warnings: warnings.into(),
        }
    }
}

/// A port of a slice, found by name and protocol.
#[derive(Debug, PartialEq)]
pub(crate) struct SlicePort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl SlicePort {
    fn key(&self) -> (&str, Protocol) {
        (&self.name, self.protocol)
    }
}

/// An endpoint as seen from this node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// On this node.
    pub(crate) local: bool,
    /// On some node that is named, as those of pods are.
    pub(crate) on_node: bool,
    pub(crate) node_hint: NodeHint,
    /// Which of its slice's zones it is in, 0 for none: a byte, since there are
    /// many endpoints and few zones.
    zone: u8,
    /// Which of its slice's lists of zones should use it, 0 for none.
    hints: u8,
}

/// Some zones.
type Zones = Box<[Arc<str>]>;

/// Whether an endpoint is meant for certain nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeHint {
    /// It does not say.
    None,
    /// For others.
    Others,
    /// For this one.
    Ours,
}

/// Strings that are shared.
const MOST_NAMES: usize = 4096;
/// Bytes of a string that is shared: a label's value has 63 at the most. What is in a
/// manifest was checked by nobody, and may be as long as the file.
const LONGEST_NAME: usize = 255;

/// Strings that many objects share.
#[derive(Debug, Default)]
pub(crate) struct Interner(BTreeSet<Arc<str>>);

impl Interner {
    /// The one copy of a string.
    pub(crate) fn intern(&mut self, text: &str) -> Arc<str> {
        if text.len() > LONGEST_NAME {
            return text.into();
        }
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        // Names of zones and ports are few and short; both bound what a hostile
        // stream of objects can make us keep.
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        let text: Arc<str> = text.into();
        self.0.insert(text.clone());
        text
    }
}

/// Reads a slice. One of names (`FQDN`) has nothing in it for us.
pub(crate) fn read(slice: &k8s::EndpointSlice, options: &Options, names: &mut Interner) -> Slice {
    let node = &*options.node_name;
    let object = || Regarding::of(Kind::EndpointSlice, &slice.metadata);
    let mut warnings = Warnings::default();
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Slice::empty(Vec::new()),
        other => {
            warnings.add(format!(
                "addressType {} is unknown; the slice is ignored",
                Quoted(other)
            ));
            return Slice::empty(warnings.finish(object));
        }
    };
    let mut ports: Vec<SlicePort> = slice
        .ports
        .iter()
        .filter_map(|port| read_port(port, names).map_err(|m| warnings.add(m)).ok())
        .flatten()
        .collect();
    ports.sort_by(|one, other| one.key().cmp(&other.key()));
    let (mut zones, mut hints) = (Vec::new(), Vec::new());
    // Nearly always all of them make sense: nothing is moved as they come.
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    endpoints.extend(slice.endpoints.iter().filter_map(|endpoint| {
        let read = read_endpoint(endpoint, family, node, &mut |note| warnings.add(note));
        let read = read.map_err(|m| warnings.add(m)).ok()??;
        let zone = endpoint.zone.as_deref().unwrap_or_default();
        let zone = place(zone, &mut zones, names).unwrap_or_else(|| {
            warnings.add("it has endpoints in more than 255 zones; 255 are told apart");
            0
        });
        let hints = hint(&endpoint.hints, &mut hints, names).unwrap_or_else(|| {
            warnings.add("its endpoints have more than 255 lists of hints; 255 are told apart");
            0
        });
        Some(Endpoint {
            zone,
            hints,
            ..read
        })
    }));
    Slice {
        family,
        ports: ports.into(),
        endpoints: endpoints.into(),
        zones: zones.into(),
        hints: hints.into(),
        weight: read_weight(slice, options, &mut warnings),
        changed: read_time(slice),
        warnings: warnings.finish(object).into(),
    }
}

/// The number of a zone among those met so far; 0 is that of none. `None` when
/// there are too many.
fn place(zone: &str, zones: &mut Vec<Arc<str>>, names: &mut Interner) -> Option<u8> {
    if zone.is_empty() {
        return Some(0);
    }
    number_among(zones, |known| **known == *zone, || names.intern(zone))
}

/// The number of a list of zones among those met so far, likewise.
fn hint(said: &k8s::EndpointHints, met: &mut Vec<Zones>, names: &mut Interner) -> Option<u8> {
    let said = &said.for_zones;
    if said.is_empty() {
        return Some(0);
    }
    let same = |zones: &Zones| {
        zones
            .iter()
            .map(|zone| &**zone)
            .eq(said.iter().map(|h| &*h.name))
    };
    let make = || said.iter().map(|hint| names.intern(&hint.name)).collect();
    number_among(met, same, make)
}

/// The number, from 1, of the one that is the same among those met so far, which a
/// new one joins. `None` when there are too many.
fn number_among<T>(
    met: &mut Vec<T>,
    same: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> Option<u8> {
    let known = met.iter().position(same);
    let number = u8::try_from(known.unwrap_or(met.len()) + 1).ok()?;
    if known.is_none() {
        met.push(make());
    }
    Some(number)
}

/// When it changed; what is no time is as good as none.
fn read_time(slice: &k8s::EndpointSlice) -> Option<NonZeroI64> {
    let text = slice.metadata.annotations.get(TRIGGER_TIME_ANNOTATION)?;
    let time: jiff::Timestamp = text.parse().ok()?;
    NonZeroI64::new(time.as_millisecond())
}

fn read_weight(
    slice: &k8s::EndpointSlice,
    options: &Options,
    warnings: &mut Warnings,
) -> Option<NonZeroU16> {
    let text = slice.metadata.annotations.get(WEIGHT_ANNOTATION)?.trim();
    if !options.honours("weight") {
        warnings.add(format!("annotation {WEIGHT_ANNOTATION}: {NOT_HONOURED}"));
        return None;
    }
    let weight = read::weight(text).and_then(NonZeroU16::new);
    if weight.is_none() {
        let most = read::MOST_WEIGHT;
        warnings.add(format!(
            "annotation {WEIGHT_ANNOTATION}: {} is no number from 1 to {most}; it is ignored \
             (what is to get nothing is not ready)",
            Quoted(text)
        ));
    }
    weight
}

fn read_port(port: &k8s::EndpointPort, names: &mut Interner) -> Result<Option<SlicePort>, String> {
    let name = port.name.as_deref().unwrap_or_default();
    let said = Quoted(name);
    // A slice may leave the number out, which means that it has no such port.
    let Some(number) = port.port else {
        return Ok(None);
    };
    let number = read::port_number(number)
        .ok_or_else(|| format!("port {said}: {number} is no port; it is ignored"))?;
    let protocol = read::protocol(port.protocol.as_deref())
        .map_err(Quoted)
        .map_err(|other| format!("port {said}: protocol {other} is unknown; it is ignored"))?;
    Ok(Some(SlicePort {
        name: names.intern(name),
        protocol,
        port: number,
    }))
}

fn read_endpoint(
    endpoint: &k8s::Endpoint,
    family: Family,
    node: &str,
    note: &mut impl FnMut(String),
) -> Result<Option<Endpoint>, String> {
    let (address, said) = match &endpoint.addresses {
        EndpointAddress::None => return Ok(None),
        EndpointAddress::Plain(address) => (*address, None),
        EndpointAddress::Odd(text) => {
            let read = read::address(text)
                .ok_or_else(|| format!("endpoint {} is no address; it is ignored", Quoted(text)))?;
            (read.value, read.note())
        }
    };
    if Family::of(address) != family {
        return Err(format!(
            "endpoint {address} is not of the slice's family; it is ignored"
        ));
    }
    if let Some(what) = unusable(address) {
        return Err(format!("endpoint {address} is {what}; it is ignored"));
    }
    if let Some(said) = said {
        note(format!("endpoint {said}"));
    }
    let hints = &endpoint.hints;
    let node_hint = match hints.for_nodes.as_slice() {
        [] => NodeHint::None,
        nodes if nodes.iter().any(|hint| hint.name == node) => NodeHint::Ours,
        _ => NodeHint::Others,
    };
    let conditions = &endpoint.conditions;
    Ok(Some(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        on_node: endpoint.node_name.as_deref().is_some_and(|n| !n.is_empty()),
        local: endpoint.node_name.as_deref() == Some(node) && !node.is_empty(),
        node_hint,
        zone: 0,
        hints: 0,
    }))
}

/// Why nobody can be reached at an address, if so.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(a) if a.is_link_local() => Some("a link-local address"),
        IpAddr::V4(a) if a.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(a) if a.is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long the texts and however many, little is kept of what is gone.
    #[test]
    fn only_short_names_are_kept_for_others_and_not_too_many() {
        let mut names = Interner::default();
        let longest = "z".repeat(LONGEST_NAME);
        let longer = "z".repeat(LONGEST_NAME + 1);

        assert!(Arc::ptr_eq(
            &names.intern(&longest),
            &names.intern(&longest)
        ));
        assert_eq!(*names.intern(&longer), *longer);
        assert_eq!(names.0.len(), 1);

        (0..=MOST_NAMES).for_each(|n| _ = names.intern(&alloc::format!("zone-{n}")));
        assert!(names.0.len() <= MOST_NAMES);
    }
}

//! The chains of classes. Packets come from `input`, and those of this host and
//! what IPVS forwards from `output`, where they have come in by no link.

use super::hooks::established;
use super::{Chain, Words, all};
use crate::class::{Class, Fate, Masquerading};
use crate::phrase::{
    Phrase, Side, UDP, accept, add_mark, drop, first_packet, from_here, from_lo, goto, protocol,
};
use crate::wire::Compare::{Equal, NotEqual};
use crate::{Config, Set};

/// A chain for each class.
pub(super) fn chains(config: &Config, words: &Words) -> impl Iterator<Item = Chain> {
    Class::all().map(move |class| {
        let mut rules = accepted(class, config);
        rules.extend(if class.restricted {
            restricted(class, words)
        } else {
            open(class, config, words)
        });
        Chain::side(class.name(), rules)
    })
}

/// With the accept bit, established packets come here too: those of fronts that
/// anybody may reach get it.
fn accepted(class: Class, config: &Config) -> Vec<Phrase> {
    let Some(accept) = config.accept_mask() else {
        return Vec::new();
    };
    let is_open = matches!(class.fate, Fate::Served | Fate::Outside);
    let bit = is_open.then(|| all([from_here(NotEqual), add_mark(accept)]));
    bit.into_iter().chain(established()).collect()
}

/// Who has no endpoint refuses everybody, whoever may come otherwise.
fn restricted(class: Class, words: &Words) -> Vec<Phrase> {
    let stranger = words.ip.front_and_source_not_in(Set::AllowedSources);
    let dropped = (class.fate != Fate::Refused).then(|| all([stranger, drop()]));
    let rest = goto(class.unrestricted().name());
    dropped.into_iter().chain([rest]).collect()
}

fn open(class: Class, config: &Config, words: &Words) -> Vec<Phrase> {
    if class.fate == Fate::Refused {
        return refused();
    }
    let by_mark = [all([from_here(Equal), goto("marked")])];
    let bit = masqueraded(class.masquerading, config, words).into_iter();
    // What this host sends is off-cluster to nobody.
    let mut rules: Vec<Phrase> = match class.masquerading {
        Masquerading::Always => bit.chain(by_mark).collect(),
        _ => by_mark.into_iter().chain(bit).collect(),
    };
    match class.fate {
        Fate::Outside => rules.push(dropped_outside(words)),
        Fate::Closed => {
            let to_vips = words.ip.address_in(Side::Destination, Set::Vips);
            rules.push(all([to_vips, goto("guard")]));
        }
        Fate::Served | Fate::Refused => {}
    }
    rules
}

/// The bit of masquerading, on the first packet of a flow: it comes to
/// `postrouting`, which takes the bit off. A mark takes its place.
fn masqueraded(how: Masquerading, config: &Config, words: &Words) -> Option<Phrase> {
    let client = match how {
        Masquerading::Never => return None,
        Masquerading::OffCluster => words.not_pods.clone()?,
        Masquerading::Always => words.ip.not_loopback(),
    };
    let bit = add_mark(config.masquerade_mask());
    Some(all([client, first_packet(), bit]))
}

/// A refused datagram of this host is left to `input`, which it reaches over lo:
/// refused here, `send` would fail with EPERM instead of ECONNREFUSED. TCP and
/// SCTP are refused here, since a draining virtual server would still take them.
fn refused() -> Vec<Phrase> {
    let later = all([from_here(Equal), protocol(Equal, UDP), accept()]);
    vec![later, goto("refuse")]
}

/// Unless a local pod sent it, or this host to itself.
fn dropped_outside(words: &Words) -> Phrase {
    let not_pods = words.not_pods.clone().unwrap_or_default();
    all([from_lo(NotEqual), not_pods, drop()])
}

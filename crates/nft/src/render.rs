//! Model to text for `nft -f -`.

use std::collections::{BTreeMap, BTreeSet};

use crate::element::{Element, forbidden_bits, parse_all};
use crate::fixed::{FINGERPRINT_CHAIN, Fixed, MARK_VALUES};
use crate::{Config, Elements, Family, Invalid, Set, TABLE};

/// Elements that go and elements that come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// To be taken out. A map element that changes its value stands here with the old one.
    pub removed: Elements,
    /// To be put in.
    pub added: Elements,
}

impl Change {
    /// Nothing goes and nothing comes.
    pub fn is_empty(&self) -> bool {
        let empty = |elements: &Elements| elements.values().all(BTreeSet::is_empty);
        empty(&self.removed) && empty(&self.added)
    }

    /// What leads from one content to another.
    pub fn between(before: &Elements, after: &Elements) -> Self {
        Self {
            removed: minus(before, after),
            added: minus(after, before),
        }
    }
}

fn minus(left: &Elements, right: &Elements) -> Elements {
    let nothing = BTreeSet::new();
    left.iter()
        .map(|(set, texts)| {
            let others = right.get(set).unwrap_or(&nothing);
            (*set, texts.difference(others).cloned().collect())
        })
        .filter(|(_, texts): &(_, BTreeSet<String>)| !texts.is_empty())
        .collect()
}

/// The whole table. One transaction puts it in the place of what was there, so
/// there is no moment without rules.
///
/// # Errors
/// A configuration or an element that must not reach the kernel.
pub fn render_table(config: &Config, elements: &Elements) -> Result<String, Invalid> {
    let fixed = Fixed::new(config)?;
    let parsed = parse_all(config.family, forbidden_bits(config), elements)?;
    let family = config.family;
    let mut text = format!(
        "table {family} {TABLE}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{\n"
    );
    text += &format!(
        "\tchain {FINGERPRINT_CHAIN}{} {{\n\t}}\n\n",
        fixed.fingerprint
    );
    for set in Set::ALL {
        let list = parsed.get(&set).map_or(&[][..], Vec::as_slice);
        let entries: Vec<String> = list.iter().map(|element| element.entry(set)).collect();
        declare(
            &mut text,
            set.keyword(),
            set.kernel_name(),
            &set.type_spec(family),
            &entries,
        );
    }
    let values: Vec<String> = marks(&parsed).into_iter().map(mark_text).collect();
    declare(&mut text, "set", MARK_VALUES, "type mark;", &values);
    text += &fixed.text;
    text.truncate(text.trim_end().len());
    text += "\n}\n";
    Ok(text)
}

fn declare(text: &mut String, keyword: &str, name: &str, type_spec: &str, entries: &[String]) {
    *text += &format!("\t{keyword} {name} {{\n\t\t{type_spec}\n");
    if !entries.is_empty() {
        *text += &format!(
            "\t\telements = {{\n\t\t\t{}\n\t\t}}\n",
            entries.join(",\n\t\t\t")
        );
    }
    *text += "\t}\n\n";
}

/// The commands that carry out a change, in one transaction; empty text for an
/// empty change. What goes goes first, so a map element can change its value
/// and a network can be replaced by a wider one.
///
/// `mark_in_use` says of a removed mark whether another front still
/// carries it after the change.
///
/// The kernel refuses the whole transaction when an element to remove is not
/// there: then the table is not what the caller thought, and
/// [`render_table`] sets it right.
///
/// # Errors
/// A configuration or an element that must not reach the kernel. Networks that
/// overlap are found among the added ones only, and not every kernel refuses one
/// that overlaps what is there: aggregate the networks of a front before comparing.
pub fn render_change(
    config: &Config,
    change: &Change,
    mark_in_use: impl Fn(u32) -> bool,
) -> Result<String, Invalid> {
    config.check()?;
    let family = config.family;
    let removed = parse_all(family, |_| 0, &change.removed)?;
    let added = parse_all(family, forbidden_bits(config), &change.added)?;
    let mut text = String::new();
    for (&set, list) in &removed {
        let keys: Vec<String> = list.iter().map(|element| element.key(set)).collect();
        command(&mut text, "delete", family, set.kernel_name(), &keys);
    }
    let (gone, come) = (marks(&removed), marks(&added));
    let unused: Vec<String> = gone
        .into_iter()
        .filter(|mark| !come.contains(mark) && !mark_in_use(*mark))
        .map(mark_text)
        .collect();
    command(&mut text, "delete", family, MARK_VALUES, &unused);
    let values: Vec<String> = come.into_iter().map(mark_text).collect();
    command(&mut text, "add", family, MARK_VALUES, &values);
    for (&set, list) in &added {
        let entries: Vec<String> = list.iter().map(|element| element.entry(set)).collect();
        command(&mut text, "add", family, set.kernel_name(), &entries);
    }
    Ok(text)
}

fn command(text: &mut String, verb: &str, family: Family, set: &str, entries: &[String]) {
    if !entries.is_empty() {
        let list = entries.join(",\n\t");
        *text += &format!("{verb} element {family} {TABLE} {set} {{\n\t{list}\n}}\n");
    }
}

fn marks(elements: &BTreeMap<Set, Vec<Element>>) -> BTreeSet<u32> {
    let maps = Set::MARKS.into_iter();
    maps.filter_map(|set| elements.get(&set))
        .flatten()
        .filter_map(|element| match element {
            Element::Mark(_, mark) => Some(*mark),
            _ => None,
        })
        .collect()
}

fn mark_text(mark: u32) -> String {
    format!("{mark:#010x}")
}

/// Takes the table away; no error when there is none.
pub fn render_delete(family: Family) -> String {
    format!("table {family} {TABLE}\ndelete table {family} {TABLE}\n")
}

//! Model to commands.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::{Commands, are_few};
use crate::element::{Element, parse_all};
use crate::fixed::{Fixed, MARK_VALUES};
use crate::set::mark_values;
use crate::wire::{Command, Item, Key, Verb};
use crate::{Config, Elements, Family, Invalid, Set};

/// Elements that go and elements that come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChange {
    /// To be taken out. A map element that changes its value stands here with the old one.
    pub removed: Elements,
    /// To be put in.
    pub added: Elements,
    /// Whether any front has a mark afterwards, where that was not so before:
    /// marks take a hook, which is there only while there are some.
    pub marking: Option<bool>,
}

impl TableChange {
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
            marking: (has_marks(before) != has_marks(after)).then(|| has_marks(after)),
        }
    }
}

/// Whether any front has a mark.
pub(crate) fn has_marks(elements: &Elements) -> bool {
    let mut maps = Set::MARKS.into_iter().filter_map(|map| elements.get(&map));
    maps.any(|texts| !texts.is_empty())
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
pub fn render_table(config: &Config, elements: &Elements) -> Result<Commands, Invalid> {
    let fixed = Fixed::new(config)?;
    let allowed = |set, mark| config.may_mark(set, mark);
    let parsed = parse_all(config.family, allowed, elements)?;
    let family = config.family;
    let place = family.place();
    let mut commands = render_delete(family);
    commands.push(Command::AddTable(place.clone()));
    let marking = has_marks(elements);
    for chain in fixed.chains(&place, marking) {
        commands.push(chain);
    }
    let few = are_few(parsed.values().map(Vec::len).sum());
    for set in sets(config, elements) {
        commands.push_set(&place, set.name(), set.spec(family));
        let list = parsed.get(&set).map_or(&[][..], Vec::as_slice);
        let items = items(set, list);
        commands.push_elements(Verb::Add, &place, set.name(), &items, few);
    }
    commands.push_set(&place, MARK_VALUES, mark_values());
    let values = values(marks(&parsed));
    commands.push_elements(Verb::Add, &place, MARK_VALUES, &values, few);
    for rule in fixed.rules(&place, marking, 1) {
        commands.push(rule);
    }
    Ok(commands)
}

/// The sets of a table. Elements of a configuration that it had before come in
/// and are then taken out.
fn sets(config: &Config, elements: &Elements) -> impl Iterator<Item = Set> {
    let has = |set: &Set| elements.get(set).is_some_and(|texts| !texts.is_empty());
    let untracked = config.untracked || Set::UNTRACKED.iter().any(has);
    let all = Set::ALL.into_iter();
    all.filter(move |set| untracked || !Set::UNTRACKED.contains(set))
}

fn items(set: Set, elements: &[Element]) -> Vec<Item> {
    let mut items = Vec::with_capacity(elements.len());
    for element in elements {
        element.items(set, &mut items);
    }
    items
}

fn values(marks: impl IntoIterator<Item = u32>) -> Vec<Item> {
    let key = |mark: u32| Key::EMPTY.with(&mark.to_ne_bytes());
    marks.into_iter().map(|mark| Item::new(key(mark))).collect()
}

/// The commands that carry out a change, in one transaction; none for an
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
    change: &TableChange,
    mark_in_use: impl Fn(u32) -> bool,
) -> Result<Commands, Invalid> {
    config.check()?;
    let place = config.family.place();
    let allowed = |set, mark| config.may_mark(set, mark);
    let removed = parse_all(config.family, |_, _| true, &change.removed)?;
    let added = parse_all(config.family, allowed, &change.added)?;
    let all = removed.values().chain(added.values()).map(Vec::len).sum();
    let few = are_few(all);
    let mut commands = Commands::default();
    if change.marking == Some(true) {
        Fixed::new(config)?.hang_marking(&place, &mut commands);
    }
    for (&set, list) in &removed {
        let items = items(set, list);
        commands.push_elements(Verb::Delete, &place, set.name(), &items, few);
    }
    let (gone, come) = (marks(&removed), marks(&added));
    let unused = gone
        .into_iter()
        .filter(|mark| !come.contains(mark) && !mark_in_use(*mark));
    commands.push_elements(Verb::Delete, &place, MARK_VALUES, &values(unused), few);
    commands.push_elements(Verb::Add, &place, MARK_VALUES, &values(come), few);
    for (&set, list) in &added {
        let items = items(set, list);
        commands.push_elements(Verb::Add, &place, set.name(), &items, few);
    }
    if change.marking == Some(false) {
        Fixed::new(config)?.unhang_marking(&place, &mut commands);
    }
    Ok(commands)
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

/// Takes the table away; no error when there is none.
pub fn render_delete(family: Family) -> Commands {
    let place = family.place();
    let table = [
        Command::AddTable(place.clone()),
        Command::DeleteTable(place),
    ];
    Commands::new(table.into())
}

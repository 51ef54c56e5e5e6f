//! What one transaction does.

use std::fmt;

use crate::wire::{Command, Item, Name, Place, SetSpec, Verb};

/// The most elements in one message, whose list may have 64 KiB: the longest of
/// ours takes 116 bytes.
const MOST_ELEMENTS: usize = 400;

/// Up to so many elements that go or come each has a message of its own, so that
/// every kernel says which one it refuses; before 6.2 some say it by the
/// message alone.
const FEW_ELEMENTS: usize = 64;

/// Changes that are made in one transaction, in their order: all of them or
/// none. Shown one a line, nearly in the words of nft.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands(Vec<Command>);

impl Commands {
    pub(crate) fn new(commands: Vec<Command>) -> Self {
        Self(commands)
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many messages the kernel gets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Do these too, in the same transaction.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Command> {
        self.0.iter()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Command> {
        self.0.get(index)
    }

    pub(crate) fn push(&mut self, command: Command) {
        self.0.push(command);
    }

    /// Elements come or go; `few` if there are so few in all that each may have
    /// a message.
    pub(crate) fn push_elements(
        &mut self,
        verb: Verb,
        place: &Place,
        set: &'static str,
        items: &[Item],
        few: bool,
    ) {
        let most = if few { 1 } else { MOST_ELEMENTS };
        self.0
            .extend(items.chunks(most).map(|items| Command::Elements {
                verb,
                place: place.clone(),
                set: Name::Borrowed(set),
                number: None,
                items: items.to_vec(),
            }));
    }

    pub(crate) fn push_set(&mut self, place: &Place, name: &'static str, spec: SetSpec) {
        // Numbers that the rules' own sets do not have.
        let number = u32::MAX - self.0.len() as u32;
        self.0.push(Command::AddSet {
            place: place.clone(),
            name: Name::Borrowed(name),
            spec,
            number,
        });
    }
}

/// Whether so many elements are few.
pub(crate) fn are_few(elements: usize) -> bool {
    elements <= FEW_ELEMENTS
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|command| writeln!(f, "{command}"))
    }
}

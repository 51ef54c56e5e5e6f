//! Which of the changes it was that the kernel refused, in our words.

use crate::element::Element;
use crate::packed::read_item;
use crate::set::Shape;
use crate::wire::{Command, Item, Verb};
use crate::{Family, Set};

/// A change; of several elements the one that stands at this byte of the
/// message.
pub(crate) fn told(command: &Command, offset: Option<u32>) -> String {
    let Command::Elements {
        verb, set, items, ..
    } = command
    else {
        return command.to_string();
    };
    let verb = match verb {
        Verb::Add => "add",
        Verb::Delete => "delete",
    };
    let item = match &items[..] {
        [item] => Some(item),
        _ => offset.and_then(|offset| command.item_at(offset)),
    };
    let family = Family::ALL
        .into_iter()
        .find(|family| family.number() == command.place().family);
    let text = item
        .zip(family)
        .map(|(item, family)| text(set, family, item));
    match text {
        Some(text) => format!("{verb} element {text} of set {set}"),
        None => format!("{verb} {} elements of set {set}", items.len()),
    }
}

/// An element as it was given. Of a network only an end may be refused.
fn text(set: &str, family: Family, item: &Item) -> String {
    let read = |set: Set| {
        let set = if set.shape() == Shape::Network {
            Set::Vips
        } else {
            set
        };
        let plain = Item {
            ends: false,
            ..*item
        };
        read_item(set, family, &plain)?
            .first()
            .map(Element::to_string)
    };
    Set::from_name(set)
        .and_then(read)
        .unwrap_or_else(|| item.to_string())
}

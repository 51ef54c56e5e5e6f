//! Collects the warnings about one object, whoever wrote it: each is said once,
//! there is a most of them, and values are shown cut. What an object costs in
//! the log, in Events and on `/readyz` does not grow with what is wrong in it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::names::Warning;
use crate::read::Quoted;
use crate::regarding::Regarding;

/// Warnings about one object; the last says how many more there are.
pub(crate) const MOST: usize = 20;
/// Characters of a message: room for several values and what is done instead.
const LONGEST_MESSAGE: usize = 800;

/// Warnings about one object. Its name is written only where there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Warnings {
    all: Vec<String>,
    /// How many were not kept.
    more: usize,
}

impl Warnings {
    /// Which field, which value (see [`Quoted`]), and what is done instead.
    pub(crate) fn add(&mut self, message: impl fmt::Display) {
        let message = cut(&message.to_string(), LONGEST_MESSAGE);
        if self.all.contains(&message) {
            return;
        }
        if self.all.len() == MOST {
            self.more += 1;
            return;
        }
        self.all.push(message);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All that are to be told, about an object, which is only asked for where there are any.
    pub(crate) fn finish(self, object: impl FnOnce() -> Regarding) -> Vec<Warning> {
        let mut all = self.all;
        if self.more > 0 {
            // The last place is taken by their number.
            all.truncate(MOST - 1);
            all.push(format!("{} more warnings are not shown", self.more + 1));
        }
        if all.is_empty() {
            return Vec::new();
        }
        let object = object();
        let about = |message| Warning {
            object: object.clone(),
            message,
        };
        all.into_iter().map(about).collect()
    }
}

/// The first few of many values, and how many more there are: `"a", "b" and 7 more`.
pub(crate) fn few<'v>(values: impl IntoIterator<Item = &'v str>) -> String {
    const FEW: usize = 3;
    let mut values = values.into_iter();
    let head: Vec<String> = values
        .by_ref()
        .take(FEW)
        .map(|value| Quoted(value).to_string())
        .collect();
    let head = head.join(", ");
    match values.count() {
        0 => head,
        more => format!("{head} and {more} more"),
    }
}

/// A text that goes on as `...` where it is longer than so many characters.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;

    fn web() -> Regarding {
        Regarding::named(Kind::Service, "default", "web", None)
    }

    fn messages(count: usize) -> Vec<String> {
        let mut warnings = Warnings::default();
        (0..count).for_each(|n| warnings.add(format!("warning {n}")));
        let all = warnings.finish(web);
        all.into_iter().map(|warning| warning.message).collect()
    }

    #[test]
    fn twenty_are_told_whole_and_of_more_the_last_is_their_number() {
        assert_eq!(messages(20).len(), 20);
        assert_eq!(messages(20)[19], "warning 19");
        assert_eq!(messages(21).len(), 20);
        assert_eq!(messages(21)[18], "warning 18");
        assert_eq!(messages(21)[19], "2 more warnings are not shown");
        assert_eq!(messages(47_989)[19], "47970 more warnings are not shown");
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let mut warnings = Warnings::default();
        (0..1000).for_each(|_| warnings.add("the same"));
        assert_eq!(warnings.finish(web).len(), 1);
    }

    #[test]
    fn a_message_has_an_end_whatever_it_is_made_of() {
        let mut warnings = Warnings::default();
        warnings.add("x".repeat(1_000_000));
        assert_eq!(warnings.finish(web)[0].message.len(), LONGEST_MESSAGE + 3);
    }

    #[test]
    fn of_many_values_a_few_are_shown() {
        assert_eq!(few(["a"]), r#""a""#);
        assert_eq!(few(["a", "b", "c"]), r#""a", "b", "c""#);
        assert_eq!(
            few(["a", "b", "c", "d", "e"]),
            r#""a", "b", "c" and 2 more"#
        );
    }
}

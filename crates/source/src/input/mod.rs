//! Files and texts as they come from outside: never more of them than is sound.

pub mod file;
pub mod json;
pub mod yaml;

/// Characters of somebody's text that a message repeats.
const SHOWN: usize = 300;

/// A text on one line and short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

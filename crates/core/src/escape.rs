//! Text of strangers, made safe to show.
//!
//! Names, annotations and messages come from whoever may write an object. Shown
//! raw on a terminal they could colour, erase, reorder or forge what stands
//! around them; a line break in a log makes a line that nobody wrote.

use core::fmt::{self, Write};

/// Whether a character changes what is around it rather than being read:
/// control characters, line and paragraph separators, marks of writing
/// direction, the byte order mark, and invisible tags.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Shows a text with what [`is_unsafe`] in it written out: `\n`, `\u{1b}`,
/// `\u{202e}`. Letters of every script stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, found)) = rest.char_indices().find(|(_, x)| is_unsafe(*x)) {
            f.write_str(&rest[..at])?;
            escape(found, f)?;
            rest = &rest[at + found.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// Writes one character out, as a string literal of Rust would have it.
///
/// # Errors
/// Those of `out`.
pub fn escape(character: char, out: &mut impl Write) -> fmt::Result {
    match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        other => write!(out, "{}", other.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn what_would_change_its_surroundings_is_written_out() {
        for (raw, shown) in [
            ("web\nready", r"web\nready"),
            ("a\r\tb", r"a\r\tb"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("c1 \u{9b}2J", r"c1 \u{9b}2J"),
            ("del\u{7f}", r"del\u{7f}"),
            (
                "\u{202e}txt\u{2066}\u{200f}",
                r"\u{202e}txt\u{2066}\u{200f}",
            ),
            ("\u{2028}\u{feff}\u{e0041}", r"\u{2028}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(Escaped(raw).to_string(), shown);
        }
    }

    #[test]
    fn letters_of_every_script_stay() {
        for text in [
            "",
            "kube-dns",
            "größe",
            "сервис",
            "サービス",
            "خدمة",
            "👩‍🚀 \\n",
        ] {
            assert_eq!(Escaped(text).to_string(), text);
        }
    }
}

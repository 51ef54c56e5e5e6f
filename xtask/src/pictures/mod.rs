//! `cargo xtask pictures`: draws `docs/pictures/*.txt` as SVG beside them.
//!
//! A source is lines: `title: …`, `kind NAME: what the colour means`,
//! `group COLUMN ROW COLUMNS ROWS: heading`,
//! `box NAME COLUMN ROW KIND: heading | line | line` and
//! `arrow FROM TO [dashed] [around]: label`. `#` begins a comment.

mod draw;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::console::Outcome;
use crate::paths::Paths;

pub(crate) fn run() -> Result<Outcome> {
    for (path, svg) in all(&Paths::find()?.root)? {
        fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
        eprintln!("xtask: {}", path.display());
    }
    Ok(Outcome::Passed)
}

/// Each picture with the file it belongs into.
fn all(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let folder = root.join("docs/pictures");
    let mut pictures = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = fs::read_to_string(&path)?;
            let picture = source::parse(&text).with_context(|| path.display().to_string())?;
            pictures.push((path.with_extension("svg"), draw::svg(&picture)?));
        }
    }
    pictures.sort();
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_as_their_sources_say() {
        let pictures = all(&Paths::find().expect("paths").root).expect("pictures");

        assert!(pictures.len() >= 2, "{}", pictures.len());
        for (path, svg) in pictures {
            let there = fs::read_to_string(&path).unwrap_or_default();
            assert!(there == svg, "{}: cargo xtask pictures", path.display());
        }
    }

    #[test]
    fn what_makes_no_picture_is_named_with_its_line() {
        let head = "title: x\nkind ours: y\nbox a 0 0 ours: A\n";
        for (line, says) in [
            ("circle a 0 0", "no word \"circle\""),
            ("box b 0 0 theirs: B", "no kind \"theirs\""),
            ("box a 1 0 ours: B", "box \"a\" is there twice"),
            ("box b 0 0 ours: B", "\"a\" is there already"),
            ("arrow a b:", "no box \"b\""),
            ("box b 1 x ours: B", "no number: \"x\""),
            (
                "box b 1 0 ours: 0123456789012345678901234567890123456789",
                "too long",
            ),
        ] {
            let text = format!("{head}{line}\n");
            let error = source::parse(&text).map(|_| ()).expect_err(line);
            let error = format!("{error:#}");
            assert!(error.contains("line 4") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_box_and_its_text_are_drawn() {
        let text = "title: A & B\nkind ours: y\nbox a 0 0 ours: A | <b>\nbox b 1 0 ours: B\narrow a b: to\n";

        let svg = draw::svg(&source::parse(text).expect("a picture")).expect("an SVG");

        for part in [
            "<title>A &amp; B</title>",
            ">&lt;b&gt;</text>",
            ">to</text>",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        // One of them is the legend's.
        assert_eq!(svg.matches("class=\"box ours\"").count(), 3, "{svg}");
        assert_eq!(svg.matches("marker-end").count(), 1, "{svg}");
    }
}

//! How long files and functions are. Longer ones are cut at a noun.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines of a file without its inline tests.
const FILE: usize = 400;
/// Lines of a function without blank ones and comments.
const FUNCTION: usize = 60;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The sources of all crates by their path, each without its tests.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![crates()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .strip_prefix(crates())
                .expect("below")
                .to_string_lossy();
            let of_tests = name.ends_with("/tests") || name.ends_with("/tests.rs");
            if path.is_dir() && !of_tests {
                folders.push(path);
            } else if name.ends_with(".rs") && name.contains("/src/") && !of_tests {
                let text = std::fs::read_to_string(&path).expect("a source");
                let code = text.split("\n#[cfg(test)]\nmod tests {").next();
                sources.insert(name.into_owned(), code.unwrap_or_default().to_owned());
            }
        }
    }
    assert!(sources.len() > 200, "{}", sources.len());
    sources
}

/// Functions with their lines of code, as rustfmt writes them: the closing brace
/// stands below the first letter.
fn functions(code: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = name_of(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let body = lines[at + 1..].iter().take_while(|line| **line != end);
        let is_code = |line: &&&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        // One that is told and not written ends with its line.
        if !line.ends_with(';') && !line.ends_with('}') {
            functions.push((name, body.filter(is_code).count()));
        }
    }
    functions
}

/// The name of the function that begins in this line.
fn name_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (before, after) = line.split_once("fn ")?;
    let words = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
    ];
    let is_head = before.split_whitespace().all(|word| words.contains(&word));
    is_head.then(|| after.split(['(', '<']).next())?
}

#[test]
fn files_are_read_in_one_sitting() {
    let all = sources();
    let long = all.iter().filter(|(_, code)| code.lines().count() > FILE);
    let long: Vec<&String> = long.map(|(name, _)| name).collect();

    assert!(long.is_empty(), "longer than {FILE} lines: {long:#?}");
}

#[test]
fn functions_fit_a_screen() {
    let mut long = Vec::new();
    for (name, code) in sources() {
        let of_file = functions(&code).into_iter();
        let of_file = of_file.filter(|(_, lines)| *lines > FUNCTION);
        long.extend(of_file.map(|(function, lines)| (format!("{name} {function}"), lines)));
    }

    assert!(long.is_empty(), "longer than {FUNCTION} lines: {long:#?}");
}

#[test]
fn a_function_ends_where_its_brace_stands() {
    let code = "fn one() {\n    // why\n    a;\n\n    if b {\n    }\n}\n\nimpl X {\n    pub fn two(\n        c: C,\n    ) {\n        d;\n    }\n}\n";

    assert_eq!(functions(code), [("one", 3), ("two", 3)]);
}

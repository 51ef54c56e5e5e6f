//! The rules of `deny.toml` on licences, banned crates and sources, held
//! against `cargo metadata`: what CI checks where cargo-deny is not installed.
//!
//! Only as much of both files is understood as these rules need.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::paths::{Paths, cargo};
use crate::tools;

/// Where released crates come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` says.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    targets: Vec<String>,
    allowed: BTreeSet<String>,
    banned: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for the crates of this workspace.
    source: Option<String>,
}

/// Checks every crate of the lock file that is built for our targets.
///
/// # Errors
/// A crate breaks a rule: all that do are named.
pub(crate) fn check() -> Result<()> {
    let paths = Paths::find()?;
    let file = paths.root.join("deny.toml");
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let rules = Rules::read(&text)?;
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["metadata", "--format-version", "1", "--locked"]);
    for target in &rules.targets {
        command.args(["--filter-platform", target]);
    }
    let metadata = tools::output(&mut command)?;
    let metadata: Metadata = serde_json::from_slice(&metadata).context("read cargo metadata")?;
    let broken: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| rules.broken_by(package))
        .collect();
    ensure!(
        broken.is_empty(),
        "deny.toml forbids:\n  {}",
        broken.join("\n  ")
    );
    eprintln!(
        "xtask: {} crates keep to deny.toml",
        metadata.packages.len()
    );
    Ok(())
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        let rules = Self {
            targets: quoted(list(text, "targets")),
            allowed: quoted(list(text, "allow")).into_iter().collect(),
            banned: list(text, "deny")
                .lines()
                .filter_map(|line| quoted(line.split_once("crate")?.1).into_iter().next())
                .collect(),
        };
        ensure!(
            !rules.targets.is_empty() && !rules.allowed.is_empty() && !rules.banned.is_empty(),
            "deny.toml lacks targets, allowed licences or banned crates, or is written in another way"
        );
        Ok(rules)
    }

    fn broken_by(&self, package: &Package) -> Vec<String> {
        let Some(source) = &package.source else {
            return Vec::new();
        };
        let Package { name, version, .. } = package;
        let mut broken = Vec::new();
        if source != CRATES_IO {
            broken.push(format!("{name} {version} comes from {source}"));
        }
        if self.banned.contains(name) {
            broken.push(format!("{name} {version} is banned"));
        }
        match package.license.as_deref() {
            Some(licence) if self.allows(licence) => {}
            Some(licence) => broken.push(format!("{name} {version}: licence {licence}")),
            None => broken.push(format!("{name} {version} names no licence")),
        }
        broken
    }

    /// An SPDX expression, or the older `A/B` for either.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('/', " OR ");
        let mut words = spaced.split_whitespace().peekable();
        let allowed = self.any(&mut words);
        allowed && words.next().is_none()
    }

    fn any(&self, words: &mut Words<'_>) -> bool {
        let mut allowed = self.all(words);
        while words.next_if_eq(&"OR").is_some() {
            allowed |= self.all(words);
        }
        allowed
    }

    fn all(&self, words: &mut Words<'_>) -> bool {
        let mut allowed = self.one(words);
        while words.next_if_eq(&"AND").is_some() {
            allowed &= self.one(words);
        }
        allowed
    }

    fn one(&self, words: &mut Words<'_>) -> bool {
        match words.next() {
            Some("(") => {
                let allowed = self.any(words);
                words.next_if_eq(&")").is_some() && allowed
            }
            Some(licence) if words.next_if_eq(&"WITH").is_some() => {
                let exception = words.next().unwrap_or_default();
                self.allowed
                    .contains(&format!("{licence} WITH {exception}"))
            }
            Some(licence) => self.allowed.contains(licence),
            None => false,
        }
    }
}

/// Words of an expression that are still to be read.
type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// What stands between the brackets of `name = [ ... ]`.
fn list<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("\n{name} = [");
    let rest = text.split_once(&start).map_or("", |(_, rest)| rest);
    rest.split_once(']').map_or("", |(list, _)| list)
}

/// The texts in quotation marks.
fn quoted(text: &str) -> Vec<String> {
    let inside = text.split('"').skip(1).step_by(2);
    inside.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let text = include_str!("../../deny.toml");
        Rules::read(text).expect("deny.toml is understood")
    }

    #[test]
    fn deny_toml_is_understood() {
        let rules = rules();

        assert_eq!(
            rules.targets,
            ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
        );
        assert!(rules.allowed.contains("Apache-2.0 WITH LLVM-exception"));
        assert!(rules.banned.contains("openssl-sys"));
        assert!(!rules.allowed.iter().any(|licence| licence.contains("GPL")));
        assert!(Rules::read("[licenses]\n").is_err());
    }

    #[test]
    fn expressions_are_judged_as_spdx_means_them() {
        let rules = rules();
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "MIT OR Apache-2.0 AND GPL-2.0-only",
        ] {
            assert!(rules.allows(allowed), "{allowed}");
        }
        for refused in [
            "",
            "GPL-2.0-only",
            "MIT AND LGPL-2.1-or-later",
            "(MIT OR Apache-2.0) AND MPL-2.0",
            "GPL-2.0-only WITH Linux-syscall-note",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!rules.allows(refused), "{refused}");
        }
    }

    #[test]
    fn crates_that_break_a_rule_are_named() {
        let package = |name: &str, license: Option<&str>, source: Option<&str>| Package {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let rules = rules();
        let broken = |package| rules.broken_by(&package).join("; ");

        assert_eq!(broken(package("x", Some("MIT"), Some(CRATES_IO))), "");
        assert_eq!(broken(package("ours", None, None)), "");
        assert_eq!(
            broken(package("x", Some("AGPL-3.0-only"), Some(CRATES_IO))),
            "x 1.0.0: licence AGPL-3.0-only"
        );
        assert_eq!(
            broken(package(
                "openssl-sys",
                None,
                Some("git+https://example.org/x")
            )),
            "openssl-sys 1.0.0 comes from git+https://example.org/x; \
             openssl-sys 1.0.0 is banned; openssl-sys 1.0.0 names no licence"
        );
    }
}

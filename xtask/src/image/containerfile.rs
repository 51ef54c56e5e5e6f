//! Reads `deploy/Containerfile`.
//!
//! Only what an image of files alone needs: an instruction that is not known
//! is an error, so that the image never lacks what the file says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// What the image is to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Files: name in the build directory, absolute path in the image.
    pub(crate) copies: Vec<(String, String)>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Variables of the program's environment.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
}

impl Recipe {
    /// Reads the text; `arguments` are the values of its `ARG`s.
    ///
    /// # Errors
    /// An instruction or a form that is not known here, or an `ARG` without a
    /// value: the line is named.
    pub(crate) fn read(text: &str, arguments: &BTreeMap<&str, String>) -> Result<Self> {
        let mut reader = Reader {
            recipe: Self::default(),
            variables: BTreeMap::new(),
            arguments,
        };
        let mut instructions = instructions(text).into_iter();
        let first = instructions.next().unwrap_or_default();
        ensure!(first == "FROM scratch", "it starts with {first:?}");
        for line in instructions {
            reader.take(&line).with_context(|| line.clone())?;
        }
        Ok(reader.recipe)
    }
}

struct Reader<'a> {
    recipe: Recipe,
    variables: BTreeMap<String, String>,
    arguments: &'a BTreeMap<&'a str, String>,
}

impl Reader<'_> {
    fn take(&mut self, line: &str) -> Result<()> {
        let (instruction, rest) = line.split_once(' ').context("an instruction alone")?;
        let rest = rest.trim();
        match instruction {
            "ARG" => self.argument(rest)?,
            "LABEL" => {
                for (name, value) in pairs(rest)? {
                    let value = self.filled_in(&value)?;
                    self.recipe.labels.insert(name, value);
                }
            }
            "ENV" => self.recipe.environment.extend(pairs(rest)?),
            "COPY" => self.recipe.copies.push(copy(rest)?),
            "ENTRYPOINT" => self.recipe.entrypoint = list(rest)?,
            "CMD" => self.recipe.command = list(rest)?,
            _ => bail!("no instruction that xtask knows; teach it in xtask/src/image"),
        }
        Ok(())
    }

    fn argument(&mut self, rest: &str) -> Result<()> {
        let (name, default) = rest.split_once('=').context("an ARG has a default")?;
        let given = self.arguments.get(name).cloned();
        let value = given.unwrap_or_else(|| default.to_owned());
        self.variables.insert(name.to_owned(), value);
        Ok(())
    }

    /// `$NAME` alone stands for the value.
    fn filled_in(&self, value: &str) -> Result<String> {
        let Some(name) = value.strip_prefix('$') else {
            ensure!(!value.contains('$'), "a variable inside a text");
            return Ok(value.to_owned());
        };
        let value = self.variables.get(name);
        value.cloned().with_context(|| format!("no ARG {name}"))
    }
}

/// Lines without comments, continued ones joined.
fn instructions(text: &str) -> Vec<String> {
    let kept = text.lines().filter(|line| !line.starts_with('#'));
    let joined = kept.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// `NAME="VALUE"` several times.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").context("it is NAME=\"VALUE\"")?;
        let (value, after) = after.split_once('"').context("a value without its end")?;
        found.push((name.trim().to_owned(), value.to_owned()));
        rest = after.trim();
    }
    Ok(found)
}

fn copy(rest: &str) -> Result<(String, String)> {
    let (from, to) = rest.split_once(' ').context("COPY takes two names")?;
    ensure!(
        to.starts_with('/') && !to.contains(' ') && !from.starts_with('-'),
        "COPY takes a file and an absolute path, no flags"
    );
    Ok((from.to_owned(), to.to_owned()))
}

fn list(rest: &str) -> Result<Vec<String>> {
    serde_json::from_str(rest).context("a JSON list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_one_file_with_its_labels() {
        let text = include_str!("../../../deploy/Containerfile");
        let arguments = [("VERSION", "1.2.3".to_owned())].into();

        let recipe = Recipe::read(text, &arguments).expect("a Containerfile");

        let path = "/usr/local/bin/kube-ipvs".to_owned();
        assert_eq!(recipe.copies, [("kube-ipvs".to_owned(), path.clone())]);
        assert_eq!(
            (recipe.entrypoint, &recipe.command[..]),
            (vec![path], &["run".to_owned()][..])
        );
        let names: Vec<_> = recipe.environment.keys().collect();
        assert_eq!(names, ["GLIBC_TUNABLES"]);
        let label = |name: &str| &*recipe.labels[&format!("org.opencontainers.image.{name}")];
        assert_eq!(label("version"), "1.2.3");
        assert_eq!(label("revision"), "unknown");
        assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
        assert_eq!(label("source"), env!("CARGO_PKG_REPOSITORY"));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for line in [
            "RUN true",
            "COPY --chown=1 a /b",
            "COPY a b",
            "CMD run",
            "LABEL a=b",
            "ENV a=b",
            "LABEL a=\"$NONE\"",
            "ARG NAME",
        ] {
            let error = Recipe::read(&format!("FROM scratch\n{line}\n"), &BTreeMap::new());
            let error = format!("{:#}", error.expect_err(line));
            assert!(error.starts_with(line), "{error}");
        }
        assert!(Recipe::read("FROM debian\n", &BTreeMap::new()).is_err());
    }
}

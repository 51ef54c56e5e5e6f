//! The licences of what is linked into the program, with their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths::{Paths, cargo};
use crate::tools;

const HEAD: &str = "\
kube-ipvs is licensed under Apache-2.0. Linked into it are the crates below, the
standard library of Rust (MIT OR Apache-2.0) and the GNU C library
(LGPL-2.1-or-later): it can be linked anew with another one from the sources of
kube-ipvs, which are public.
";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
    /// None for the crates of this workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None for what is linked; `dev` and `build` otherwise.
    kind: Option<String>,
}

/// Names, versions and licences, then the texts, each once.
pub(crate) fn list(paths: &Paths) -> Result<String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    command
        .current_dir(&paths.root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", &triple]);
    let metadata = tools::output(&mut command)?;
    let metadata = serde_json::from_slice(&metadata).context("read cargo metadata")?;
    write(&metadata)
}

fn write(metadata: &Metadata) -> Result<String> {
    let linked = linked(metadata, "kube-ipvs");
    let mut packages: Vec<&Package> = metadata.packages.iter().collect();
    packages.retain(|package| package.source.is_some() && linked.contains(&*package.id));
    packages.sort_by_key(|package| (&package.name, &package.version));
    let mut text = HEAD.to_owned() + "\n";
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, .. } = package;
        let licence = package.license.as_deref().unwrap_or("no licence named");
        let from = package.repository.as_deref().unwrap_or_default();
        text += format!("{name} {version}: {licence} {from}").trim_end();
        text += "\n";
        for content in texts_of(&package.manifest_path)? {
            let with = texts.entry(content).or_default();
            with.push(format!("{name} {version}"));
        }
    }
    for (content, with) in texts {
        text += &format!("\n{}\n{}:\n\n{content}\n", "-".repeat(80), with.join(", "));
    }
    Ok(text)
}

/// The packages that become part of `root`.
fn linked<'a>(metadata: &'a Metadata, root: &str) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (&*node.id, node))
        .collect();
    let root = metadata
        .packages
        .iter()
        .find(|package| package.name == root);
    let mut next: Vec<&str> = root.iter().map(|package| &*package.id).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).map_or(&[][..], |node| &node.deps);
        let linked = dependencies
            .iter()
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        next.extend(linked.map(|dependency| &*dependency.pkg));
    }
    found
}

/// Licences and notices that lie beside a manifest.
fn texts_of(manifest: &Path) -> Result<Vec<String>> {
    let directory = manifest
        .parent()
        .context("a manifest lies in a directory")?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "NOTICE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_one && entry.file_type()?.is_file() {
            let content = fs::read(entry.path())?;
            texts.push(String::from_utf8_lossy(&content).trim_end().to_owned());
        }
    }
    texts.sort();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_text_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("LICENSE-MIT"), "Permission\n").expect("a file");
        let package = |name: &str, source: Option<&str>| {
            json!({
                "id": name, "name": name, "version": "1.0.0", "license": "MIT", "source": source,
                "manifest_path": directory.path().join("Cargo.toml"), "repository": null,
            })
        };
        let node = |name: &str, deps: &[(&str, Option<&str>)]| {
            let deps = deps.iter();
            let deps = deps.map(|(pkg, kind)| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]}));
            json!({"id": name, "deps": deps.collect::<Vec<_>>()})
        };
        let metadata = json!({
            "packages": [
                package("kube-ipvs", None), package("a", Some("x")), package("b", Some("x")),
                package("builder", Some("x")), package("tester", Some("x")),
            ],
            "resolve": {"nodes": [
                node("kube-ipvs", &[("b", None), ("tester", Some("dev")), ("builder", Some("build"))]),
                node("b", &[("a", None)]), node("a", &[]), node("tester", &[]), node("builder", &[]),
            ]},
        });

        let text = write(&serde_json::from_value(metadata).expect("metadata")).expect("a list");

        let list = text.strip_prefix(HEAD).expect("the head");
        let line = "-".repeat(80);
        assert_eq!(
            list,
            format!("\na 1.0.0: MIT\nb 1.0.0: MIT\n\n{line}\na 1.0.0, b 1.0.0:\n\nPermission\n")
        );
    }
}

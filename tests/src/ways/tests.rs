//! The table by itself, and what the guide makes of it.

use std::path::{Path, PathBuf};

use super::*;

impl Ask {
    /// What a person types.
    fn typed(self) -> &'static str {
        match self {
            Self::Service(_) => "kube-ipvs explain NAMESPACE/SERVICE",
            Self::Front(_) => "kube-ipvs explain ADDRESS:PORT",
            Self::From(..) => "kube-ipvs explain NAMESPACE/SERVICE --from CLIENT",
            Self::Status => "kube-ipvs status",
        }
    }
}

impl Way {
    /// As the guide has it.
    fn entry(&self) -> String {
        let Self {
            symptom,
            says,
            remedy,
            ..
        } = self;
        let typed = self.ask.typed();
        format!("| {symptom} | `{typed}` | `{says}` | {remedy} |\n")
    }
}

const GUIDE: &str = "docs/troubleshooting.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All of them, by the heading of their tables.
fn tables() -> [(&'static str, Vec<Way>); 4] {
    let scripted = |all: &[(&str, Way)]| all.iter().map(|(_, way)| *way).collect();
    [
        ("services", SERVICES.to_vec()),
        ("kernel", scripted(&KERNEL)),
        ("rollout", rollout::ROLLOUT.map(|(_, way)| way).to_vec()),
        ("node", [scripted(&NODE), scripted(&OTHERS)].concat()),
    ]
}

fn all() -> Vec<Way> {
    tables().into_iter().flat_map(|(_, ways)| ways).collect()
}

#[test]
fn quotes_are_of_the_answers() {
    for way in all() {
        let mut rest = way.answer;
        let parts = way.says.split('…').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            let found = rest.find(part);
            let found = found.unwrap_or_else(|| panic!("{part:?} of {way:?}"));
            rest = &rest[found + part.len()..];
        }
    }
}

#[test]
fn each_is_another_and_there_are_enough() {
    let ways = all();
    let symptoms: std::collections::BTreeSet<_> = ways.iter().map(|way| way.symptom).collect();

    assert_eq!(symptoms.len(), ways.len());
    assert!(ways.len() >= 30, "{}", ways.len());
}

/// What stands alone is named by a test that makes it.
#[test]
fn each_is_made_by_a_test() {
    let mut code = String::new();
    sources(&root().join("tests/tests"), &mut code);

    let alone = ["SERVICES", "KERNEL", "NODE"].into_iter();
    let alone = alone.chain(OTHERS.map(|(name, _)| name));
    let alone = alone.map(|name| format!("ways::{name}"));
    let of_rollouts = rollout::ROLLOUT.map(|(name, _)| name.to_owned());
    for name in alone.chain(of_rollouts) {
        let named = |end| code.contains(&format!("{name}{end}"));
        assert!([".", ",", " ", ")", ";"].into_iter().any(named), "{name}");
    }
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else {
            all.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// `KUBE_IPVS_WRITE=1` writes them.
#[test]
fn the_guide_has_each_as_an_entry() {
    let path = root().join(GUIDE);
    let text = std::fs::read_to_string(&path).expect("the guide");
    let mut made = text.clone();
    for (name, ways) in tables() {
        let begin = format!("<!-- tests/src/ways: {name} -->\n");
        let (before, rest) = made.split_once(&begin).expect("where it begins");
        let (_, after) = rest.split_once("<!-- end -->").expect("where it ends");
        let entries: String = ways.iter().map(Way::entry).collect();
        let head = "| symptom | ask | says | do |\n| --- | --- | --- | --- |\n";
        made = format!("{before}{begin}\n{head}{entries}\n<!-- end -->{after}");
    }

    if std::env::var_os("KUBE_IPVS_WRITE").is_some() {
        std::fs::write(&path, &made).expect("write the guide");
        return;
    }
    assert!(
        made == text,
        "{GUIDE} is not as tests/src/ways says: write it by \
         KUBE_IPVS_WRITE=1 cargo test -p kube-ipvs-tests --lib ways"
    );
}

//! What `.github/workflows` may hold.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use clap::CommandFactory;
use serde_json::Value;

use crate::cli::Cli;

/// Each workflow's file name and content.
fn workflows() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let entries = fs::read_dir(&folder).expect("the workflows");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).expect("a workflow");
        let parsed = serde_saphyr::from_str(&text);
        (
            name.clone(),
            parsed.unwrap_or_else(|error| panic!("{name}: {error}")),
        )
    };
    files.into_iter().map(read).collect()
}

/// All texts under a key of this name, at any depth.
fn texts(key: &str, value: &Value) -> Vec<String> {
    let below: Vec<&Value> = match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    let here = value.get(key).and_then(Value::as_str).map(str::to_owned);
    let deeper = below.into_iter().flat_map(|value| texts(key, value));
    here.into_iter().chain(deeper).collect()
}

fn pinned(action: &str) -> bool {
    let commit = action.split_once('@').map_or("", |(_, commit)| commit);
    commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Why `cargo xtask` would not take these words, if it would not.
fn refusal(words: &str) -> Option<String> {
    let arguments = iter::once("xtask").chain(words.split_whitespace());
    Cli::command()
        .try_get_matches_from(arguments)
        .err()
        .map(|error| error.to_string())
}

#[test]
fn there_are_the_three_workflows_and_each_has_jobs() {
    let names: Vec<String> = workflows()
        .into_iter()
        .filter(|(_, workflow)| {
            workflow["jobs"]
                .as_object()
                .is_some_and(|jobs| !jobs.is_empty())
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["ci.yml", "e2e.yml", "release.yml"]);
}

#[test]
fn ci_runs_what_a_laptop_cannot() {
    let all = workflows();
    let (_, ci) = all
        .iter()
        .find(|(name, _)| name == "ci.yml")
        .expect("ci.yml");
    let runs = texts("run", ci).join("\n");
    for command in [
        "cargo xtask kernel-test",
        "cargo xtask container-test",
        "cargo deny check advisories",
        "cargo xtask dist",
        "cargo publish --dry-run --locked -p netlink-exchange -p ipvs-netlink",
    ] {
        assert!(runs.contains(command), "{command}: not in\n{runs}");
    }
}

/// Most files of a release are called alike on both, and `cp` refuses to
/// overwrite what the same call has made.
#[test]
fn files_of_two_processors_are_copied_one_after_the_other() {
    let all = workflows();
    let scripts = all.iter().flat_map(|(_, workflow)| texts("run", workflow));
    let copies: Vec<String> = scripts
        .flat_map(|script| script.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.trim_start().starts_with("cp "))
        .collect();
    assert!(!copies.is_empty());
    for copy in copies {
        assert_eq!(copy.matches("dist/dist-").count(), 1, "{copy}");
    }
}

#[test]
fn every_action_is_pinned_by_its_commit() {
    for (name, workflow) in workflows() {
        for action in texts("uses", &workflow) {
            assert!(
                pinned(&action),
                "{name}: {action} is a tag or branch, which can move"
            );
        }
    }
    assert!(!pinned("actions/checkout@v4"));
    assert!(!pinned("actions/checkout"));
}

#[test]
fn every_task_that_is_called_is_one() {
    let mut called = 0;
    for (name, workflow) in workflows() {
        for script in texts("run", &workflow) {
            for words in script.split("cargo xtask ").skip(1) {
                // A matrix says the rest.
                let line = words.lines().next().unwrap_or_default();
                let line = line.split("${{").next().unwrap_or_default();
                let refused = refusal(line);
                assert_eq!(refused, None, "{name}: cargo xtask {line}");
                called += 1;
            }
        }
        for words in workflow["jobs"]["vm"]["strategy"]["matrix"]["tests"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            assert_eq!(
                refusal(&format!("kernel-test {words}")),
                None,
                "{name}: {words}"
            );
        }
    }
    assert!(called >= 5, "only {called} calls");
    assert!(refusal("no-such-task").is_some());
}

/// Whoever can write to the repository from a job can write to what it ships.
#[test]
fn only_what_publishes_may_write() {
    for (name, workflow) in workflows() {
        assert_eq!(
            workflow["permissions"],
            serde_json::json!({"contents": "read"}),
            "{name}"
        );
        for (job, content) in workflow["jobs"].as_object().expect("jobs") {
            let own = content.get("permissions").is_some();
            assert!(
                !own || (name == "release.yml" && job == "publish"),
                "{name}: {job}"
            );
        }
    }
}

//! Manifests on disk, good and bad, first and later.

use std::fs;

use super::*;

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";

fn names(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Upsert(object) => Some(format!("+{}", object.reference().name)),
            Event::Delete(at) => Some(format!("-{}", at.name)),
            _ => None,
        })
        .collect()
}

fn service(name: &str) -> String {
    WEB.replace("name: web", &format!("name: {name}"))
}

#[test]
fn a_first_reading_is_a_whole_list_and_later_ones_are_changes() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), WEB).unwrap();
    let mut manifests = Manifests::at(directory.path());

    let first = manifests.read().unwrap();
    assert!(matches!(first.events[0], Event::ListStarted(Kind::Service)));
    assert!(matches!(first.events.last(), Some(Event::ListCompleted(_))));
    assert_eq!(names(&first.events), ["+web"]);

    fs::write(directory.path().join("b.yaml"), service("api")).unwrap();
    assert_eq!(names(&manifests.read().unwrap().events), ["+api"]);

    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    assert_eq!(names(&manifests.read().unwrap().events), ["-web"]);
    assert_eq!(manifests.read().unwrap().events.len(), 0);
}

#[test]
fn a_broken_document_is_named_and_the_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "{WEB}---\nkind: Service\nspec: {{}}\n---\nkind: Wrong\n---\na: [\n---\n{}",
        service("api")
    );
    fs::write(directory.path().join("a.yaml"), text).unwrap();
    let reading = Manifests::at(directory.path()).read().unwrap();
    assert_eq!(names(&reading.events), ["+api", "+web"]);
    let problems = reading.problems.join("\n");
    assert!(
        problems.contains("a.yaml: document 2: Service: field metadata.name is missing"),
        "{problems}"
    );
    assert!(
        problems.contains("a.yaml: document 3: kind Wrong is not known"),
        "{problems}"
    );
    assert!(
        problems.contains("a.yaml: document 4: not YAML"),
        "{problems}"
    );
}

#[test]
fn a_file_that_goes_bad_keeps_what_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, format!("{WEB}---\n{}", service("api"))).unwrap();
    let mut manifests = Manifests::at(directory.path());
    manifests.read().unwrap();

    fs::write(&file, "kind: [broken").unwrap();
    let reading = manifests.read().unwrap();
    assert_eq!(names(&reading.events), [""; 0]);
    assert!(
        reading.problems[0].ends_with("last good is kept"),
        "{:?}",
        reading.problems
    );

    let wrong_field = WEB.replace("port: 80", "port: http");
    fs::write(&file, wrong_field).unwrap();
    let reading = manifests.read().unwrap();
    let problem = &reading.problems[0];
    assert!(
        problem.contains("a.yaml: document 1: ") && problem.contains("spec.ports[0].port"),
        "{problem}"
    );
    assert_eq!(names(&reading.events), ["-api"], "{:?}", reading.problems);
}

#[test]
fn an_unreadable_directory_keeps_everything_later_and_fails_at_first() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("manifests");
    let error = format!("{:#}", Manifests::at(&at).read().unwrap_err());
    assert!(
        error.starts_with("read manifests") && error.contains("No such file"),
        "{error}"
    );

    fs::create_dir(&at).unwrap();
    fs::write(at.join("a.yaml"), WEB).unwrap();
    let mut manifests = Manifests::at(&at);
    manifests.read().unwrap();
    fs::rename(&at, directory.path().join("elsewhere")).unwrap();
    let reading = manifests.read().unwrap();
    assert_eq!(reading.events.len(), 0);
    assert!(reading.problems[0].ends_with("what was read before is kept"));
}

#[test]
fn lists_are_read_as_kubectl_prints_them() {
    let item =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"x"},"spec":{}}"#;
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{item}]}}"#);
    assert_eq!(parse(&list).objects.len(), 1);
    let typed = r#"{"kind":"ServiceList","items":[{"metadata":{"name":"a"},"spec":{}}]}"#;
    assert_eq!(parse(typed).objects.len(), 1);
}

#[test]
fn the_same_object_in_two_files_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), WEB).unwrap();
    fs::write(directory.path().join("b.yaml"), WEB).unwrap();
    let reading = Manifests::at(directory.path()).read().unwrap();
    assert_eq!(names(&reading.events), ["+web"]);
    assert!(reading.problems[0].contains("b.yaml") && reading.problems[0].contains("already in"));
}

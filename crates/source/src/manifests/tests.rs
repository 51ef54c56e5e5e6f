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
    let typed =
        r#"{"apiVersion":"v1","kind":"ServiceList","items":[{"metadata":{"name":"a"},"spec":{}}]}"#;
    for text in [typed.to_owned(), yaml_of(typed)] {
        let parsed = parse(&text);
        assert_eq!(parsed.objects.len(), 1, "{:?}", parsed.problems);
    }
    let nothing = r#"{"apiVersion":"v1","kind":"ServiceList","items":null}"#;
    let parsed = parse(nothing);
    assert_eq!((parsed.objects.len(), parsed.problems.len()), (0, 0));
    let pods = r#"{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod"},{"kind":"Pod"}]}"#;
    assert_eq!(parse(pods).problems.len(), 1, "said once");
}

fn yaml_of(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    serde_saphyr::to_string(&value).unwrap()
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

fn objects(text: &str) -> Vec<String> {
    let parsed = parse(text);
    assert_eq!(parsed.problems, [], "{text:?}");
    parsed
        .objects
        .iter()
        .map(|object| object.reference().to_string())
        .collect()
}

fn json(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}"}},"spec":{{"clusterIP":"10.96.0.1"}}}}"#
    )
}

fn flow(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}}}")
}

#[test]
fn documents_are_told_apart_as_kubectl_does() {
    let (a, b) = (json("a"), json("b"));
    let block = |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n");
    for text in [
        format!("{a}{b}"),
        format!("{a}\n\n{b}\n"),
        format!("\u{feff}{a}\n---\n{b}"),
        format!("{a}\n---\n{}", block("b")),
        format!("{}---\n{b}", block("a")),
        format!("--- {}\n--- {}\n", flow("a"), flow("b")),
        format!("--- {a}\n--- {b}\n"),
        format!("---\t{}\n---  \n{}", flow("a"), flow("b")),
        format!(
            "---\r\n{}...\r\n---\r\n{}",
            block("a").replace('\n', "\r\n"),
            block("b")
        ),
        format!("{}...\n{}...\n", block("a"), block("b")),
        format!(
            "%YAML 1.2\n---\n{}--- # the second\n{}",
            block("a"),
            block("b")
        ),
        format!("\u{feff}{}---\n\u{feff}{}", block("a"), block("b")),
        format!("# {a}\n---\n---\n{a}\n---\n{}", flow("b")),
        format!("{}\n---\n\t{b}", flow("a")),
        a.replace(',', ",\n\t") + &b,
        "apiVersion:\tv1\nkind:\tService # x\nmetadata:\t{name: a}\n---\n".to_owned() + &b,
    ] {
        assert_eq!(
            objects(&text),
            ["Service default/a", "Service default/b"],
            "{text:?}"
        );
    }
}

#[test]
fn json_may_hold_what_yaml_may_not() {
    let text = json("a").replace("10.96.0.1", "\u{7f}\u{9b} \\ud83d\\ude00 \\u0000");
    assert_eq!(objects(&text), ["Service default/a"]);
    assert_eq!(objects(&format!("--- {text}")), ["Service default/a"]);
}

#[test]
fn a_place_is_that_in_the_file() {
    let broken = |text: &str| parse(text).problems[0].to_string();
    let text = format!("{WEB}---\n{WEB}\na: 1\na: 2\n");
    assert_eq!(WEB.lines().count(), 4);
    let problem = broken(&text);
    assert!(
        problem.starts_with("document 2: not YAML:") && problem.contains("line 12"),
        "{problem}"
    );
    let problem = broken(&format!(
        "{WEB}---\n{{\"kind\": \"Service\",\n\"metadata\": ]}}"
    ));
    assert!(
        problem.starts_with("document 2: not JSON: line 7"),
        "{problem}"
    );
    let problem = broken(&(json("a") + "{\"kind\": "));
    assert!(
        problem.starts_with("document 2: not JSON: line 1"),
        "{problem}"
    );
}

#[test]
fn what_is_wrong_is_repeated_in_part() {
    let text = json("a").replace("\"10.96.0.1\"", &format!("[{}]", "1,".repeat(9_000) + "1"));
    let text = text.replace("v1", &"v".repeat(9_000));
    assert!(parse(&text).problems[0].message.len() < 1_000);
    let text = json("a").replace("\"10.96.0.1\"", "7");
    assert!(parse(&text).problems[0].message.contains("spec.clusterIP"));
}

#[test]
fn group_and_kind_both_count() {
    let knative = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {template: {}}\n";
    let longhorn = "apiVersion: longhorn.io/v1beta2\nkind: Node\nmetadata: {name: n1}\nspec: {allowScheduling: true}\n";
    let list =
        "apiVersion: serving.knative.dev/v1\nkind: ServiceList\nitems: [{metadata: {name: web}}]\n";
    let parsed = parse(&format!("{WEB}---\n{knative}---\n{longhorn}---\n{list}"));
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.others.len(), 3);
    assert!(
        parsed
            .others
            .iter()
            .any(|other| other.contains("Service of serving.knative.dev/v1"))
    );
    for (kind, version) in [
        ("Service", "v1"),
        ("Node", "v1"),
        ("EndpointSlice", "discovery.k8s.io/v1"),
        ("ServiceCIDR", "networking.k8s.io/v1"),
        ("ServiceCIDR", "networking.k8s.io/v1beta1"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        assert_eq!(objects(&text).len(), 1, "{text}");
    }
}

#[test]
fn a_version_that_is_missing_or_not_read_is_an_error_with_the_object() {
    let without = WEB.replace("apiVersion: v1\n", "");
    let beta = "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n";
    for (text, expected) in [
        (
            without.as_str(),
            "Service default/web: apiVersion is missing; it must be v1",
        ),
        (
            beta,
            "EndpointSlice default/a: apiVersion discovery.k8s.io/v1beta1 is not read; it must be discovery.k8s.io/v1",
        ),
    ] {
        let problem = &parse(text).problems[0];
        assert_eq!(problem.message, expected);
        assert!(matches!(problem.loss, Loss::Object(_)));
    }
}

#[test]
fn what_has_no_namespace_is_in_default() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n";
    let named = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: \"\"}\n";
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: x}\n";
    assert_eq!(
        objects(&format!("{slice}---\n{named}---\n{node}")),
        ["EndpointSlice default/a", "Service default/a", "Node n1"]
    );
}

/// Lists of Services and slices as `kubectl get -o json` prints them.
fn listing(services: usize, endpoints: usize) -> serde_json::Value {
    let items = (0..services).flat_map(|number| {
        let name = format!("service-{number}");
        let endpoints: Vec<_> = (0..endpoints)
            .map(|endpoint| {
                serde_json::json!({
                    "addresses": [format!("10.{}.{}.{endpoint}", number / 250, number % 250)],
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "nodeName": "node-1", "zone": "a",
                    "targetRef": {"kind": "Pod", "name": format!("{name}-{endpoint}"),
                        "namespace": "default", "uid": "0a6f4f1e-3f3b-4a51-8d4a-6d1f7d3f0c11"},
                })
            })
            .collect();
        [
            serde_json::json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}}),
            serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("{name}-x"), "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
                "endpoints": endpoints}),
        ]
    });
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}

#[test]
fn a_listing_of_eight_hundred_services_is_read() {
    let list = listing(800, 10);
    let json = serde_json::to_string_pretty(&list).unwrap();
    assert_eq!(objects(&json).len(), 1_600);
    assert_eq!(
        objects(&serde_saphyr::to_string(&list).unwrap()).len(),
        1_600
    );
}

/// What a reading tells of lists and of objects that it cannot read.
fn told(events: &[Event]) -> Vec<String> {
    let said = events.iter().filter_map(|event| match event {
        Event::ListCompleted(kind) => Some(format!("{kind} completed")),
        Event::ListIncomplete(kind) => Some(format!("{kind} incomplete")),
        Event::Unreadable(at) => Some(format!("{} unreadable", at.object)),
        _ => None,
    });
    said.collect()
}

fn each(what: &str) -> Vec<String> {
    KINDS.map(|kind| format!("{kind} {what}")).to_vec()
}

#[test]
fn a_list_that_could_not_be_read_whole_is_never_completed() {
    type Make = fn(&Path) -> std::io::Result<()>;
    let ways: [(&str, Make); 14] = [
        ("not YAML", |path| fs::write(path, "kind: [broken")),
        ("is empty", |path| fs::write(path, "")),
        ("field kind is missing", |path| fs::write(path, "a: b")),
        ("metadata.name is missing", |path| {
            fs::write(path, "apiVersion: v1\nkind: Service\n")
        }),
        ("metadata.name is no text", |path| {
            fs::write(path, "apiVersion: v1\nkind: Service\nmetadata: {name: 7}\n")
        }),
        ("List: field items is no list", |path| {
            fs::write(path, "apiVersion: v1\nkind: List\nitems: {kind: Service}\n")
        }),
        ("ServiceList: field items is no list", |path| {
            fs::write(path, r#"{"kind": "ServiceList", "items": "none"}"#)
        }),
        ("List: field items is missing", |path| {
            fs::write(path, "apiVersion: v1\nkind: List\n")
        }),
        ("ServiceList: an item is null", |path| {
            fs::write(path, r#"{"kind": "ServiceList", "items": [null]}"#)
        }),
        ("List: an item is null", |path| {
            fs::write(path, "kind: List\nitems: [~]\n")
        }),
        ("not JSON", |path| {
            fs::write(path, "{\"apiVersion\": \"v1\",")
        }),
        ("not UTF-8", |path| fs::write(path, b"\xff")),
        ("No such file", |path| {
            std::os::unix::fs::symlink("nowhere", path)
        }),
        ("not a regular file", |path| fs::create_dir(path)),
    ];
    for (reason, make) in ways {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.yaml"), WEB).unwrap();
        let broken = directory.path().join("b.yaml");
        make(&broken).unwrap();
        let mut manifests = Manifests::at(directory.path());

        let first = manifests.read().unwrap();
        assert_eq!(names(&first.events), ["+web"], "what can be read is told");
        assert_eq!(told(&first.events), each("incomplete"), "{reason}");
        let unreadable = first.unreadable().expect(reason);
        assert!(
            unreadable.contains("b.yaml") && unreadable.contains(reason),
            "{unreadable}"
        );
        assert_eq!(manifests.read().unwrap().events, []);

        // Something more that can be read, and something less.
        fs::write(directory.path().join("c.yaml"), service("api")).unwrap();
        fs::remove_file(directory.path().join("a.yaml")).unwrap();
        assert_eq!(
            names(&manifests.read().unwrap().events),
            ["+api"],
            "{reason}"
        );

        if broken.is_dir() && !broken.is_symlink() {
            fs::remove_dir(&broken).unwrap();
        } else {
            fs::remove_file(&broken).unwrap();
        }
        fs::write(&broken, service("db")).unwrap();
        let mended = manifests.read().unwrap();
        assert_eq!(mended.unreadable(), None);
        assert_eq!(names(&mended.events), ["+api", "+db"]);
        assert_eq!(told(&mended.events), each("completed"), "{reason}");
    }
}

#[test]
fn an_object_that_cannot_be_read_is_told_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let wrong = WEB.replace("port: 80", "port: http");
    fs::write(&file, format!("{wrong}---\n{}", service("api"))).unwrap();
    let mut manifests = Manifests::at(directory.path());

    let first = manifests.read().unwrap();
    assert_eq!(names(&first.events), ["+api"]);
    let mut expected = vec!["Service default/web unreadable".to_owned()];
    expected.extend(each("completed"));
    assert_eq!(told(&first.events), expected);
    assert!(first.unreadable().unwrap().contains("Service default/web"));
    assert_eq!(manifests.read().unwrap().events, []);

    fs::write(&file, service("api")).unwrap();
    assert_eq!(
        names(&manifests.read().unwrap().events),
        ["-web"],
        "it was there"
    );
}

#[test]
fn nothing_is_gone_while_anything_is_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (
        directory.path().join("a.yaml"),
        directory.path().join("b.yaml"),
    );
    fs::write(&a, WEB).unwrap();
    fs::write(&b, service("api")).unwrap();
    let mut manifests = Manifests::at(directory.path());
    manifests.read().unwrap();

    fs::write(&b, "kind: [broken").unwrap();
    fs::remove_file(&a).unwrap();
    let reading = manifests.read().unwrap();
    assert_eq!(reading.events, [], "web may be on its way to b.yaml");
    assert!(reading.unreadable().is_some());

    fs::write(&b, WEB).unwrap();
    assert_eq!(names(&manifests.read().unwrap().events), ["-api"]);
}

#[test]
fn a_file_that_moves_while_it_is_read_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (
        directory.path().join("a.yaml"),
        directory.path().join("b.yaml"),
    );
    fs::write(&a, WEB).unwrap();
    let survey = Survey::of(directory.path()).unwrap();
    assert!(survey.still_holds(directory.path()));
    fs::write(&a, service("api") + "# longer").unwrap();
    assert!(!survey.still_holds(directory.path()), "written");
    let survey = Survey::of(directory.path()).unwrap();
    fs::rename(&a, &b).unwrap();
    assert!(!survey.still_holds(directory.path()), "renamed");
}

#[test]
fn a_reason_names_some_and_counts_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let broken = "---\nkind: [broken\n".repeat(NAMED + 3);
    fs::write(directory.path().join("a.yaml"), broken).unwrap();
    let reading = Manifests::at(directory.path()).read().unwrap();
    let reason = reading.unreadable().unwrap();
    assert!(reason.ends_with("; and 3 more"), "{reason}");
}

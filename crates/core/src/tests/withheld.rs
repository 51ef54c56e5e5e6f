//! Annotations that the operator does not honour.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Cluster;
use crate::fixtures::*;
use crate::k8s::{Service, WEIGHT_ANNOTATION};
use crate::options::Options;

/// Everything that an owner may ask for.
fn greedy() -> Service {
    [
        ("ipvs.kube-ipvs.dev/scheduler", "wrr"),
        ("kube-router.io/service.scheduler", "wlc"),
        ("ipvs.kube-ipvs.dev/weights", "node=10"),
        ("ipvs.kube-ipvs.dev/upper-threshold", "7"),
        ("ipvs.kube-ipvs.dev/masquerade", "always"),
        ("ipvs.kube-ipvs.dev/slow-start", "30s"),
        ("kube-router.io/service.local", "true"),
    ]
    .into_iter()
    .fold(web().node_port(30080), |service, (name, value)| {
        service.annotation(name, value)
    })
}

fn honouring(words: &[&'static str]) -> Cluster {
    cluster_with(Options {
        annotations: Some(words.to_vec()),
        ..options()
    })
}

fn with(mut cluster: Cluster, service: &Service) -> Cluster {
    let both = [ep("10.244.1.7").here(), ep("10.244.2.9")];
    cluster.add(service.clone()).endpoints(service, both);
    cluster
}

fn warnings(cluster: &Cluster) -> Vec<String> {
    let all = cluster.warnings().into_iter();
    all.map(|warning| warning.message).collect()
}

#[test]
fn what_is_switched_off_is_as_good_as_none_and_told() {
    let mut cluster = with(honouring(&[]), &greedy());

    let plain = with(honouring(&[]), &web().node_port(30080)).state();
    assert_eq!(cluster.state(), plain);
    let told = warnings(&cluster);
    assert_eq!(told.len(), 7, "{told:?}");
    for one in told {
        let why = "this node does not honour it (--service-annotations); it is ignored";
        assert!(
            one.starts_with("annotation ") && one.ends_with(why),
            "{one}"
        );
    }
}

#[test]
fn the_words_that_are_left_are_honoured_and_so_are_their_aliases() {
    let web = || web().node_port(30080);
    let alias = web().annotation("kube-router.io/service.scheduler", "wlc");
    let both = alias
        .clone()
        .annotation("ipvs.kube-ipvs.dev/masquerade", "always");
    let mut cluster = with(honouring(&["scheduler"]), &both);

    assert_eq!(
        cluster.state(),
        with(honouring(&["scheduler"]), &alias).state()
    );
    assert!(cluster.text().contains("wlc"), "{}", cluster.text());
    assert_eq!(warnings(&cluster).len(), 1);
}

#[test]
fn an_annotation_that_goes_takes_its_warning_along() {
    let mut cluster = with(honouring(&[]), &greedy());
    cluster.compile();
    assert!(!warnings(&cluster).is_empty());

    cluster.add(web().node_port(30080));
    cluster.compile();

    assert_eq!(warnings(&cluster), Vec::<String>::new());
}

#[test]
fn the_weight_of_a_slice_is_one_of_them() {
    let service = web().annotation("ipvs.kube-ipvs.dev/scheduler", "wrr");
    let mut heavy = slice(&service, [ep("10.244.1.7")]);
    let annotations = &mut heavy.metadata.annotations;
    annotations.insert(WEIGHT_ANNOTATION.into(), "7".into());
    let compiled = |mut cluster: Cluster| {
        cluster.add(service.clone()).add(heavy.clone());
        (cluster.text(), warnings(&cluster).len())
    };

    let (text, told) = compiled(honouring(&["scheduler"]));
    assert!(text.contains("weight 1") && told == 1, "{told}: {text}");
    let (text, told) = compiled(honouring(&["scheduler", "weight"]));
    assert!(text.contains("weight 7") && told == 0, "{told}: {text}");
}

#[test]
fn all_words_are_in_the_documents() {
    let guide = include_str!("../../../../docs/annotations.md");
    for word in crate::annotation_words() {
        assert!(guide.contains(&format!("`{word}`")), "{word}");
    }
}

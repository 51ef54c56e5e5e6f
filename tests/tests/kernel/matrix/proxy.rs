//! A proxier of a node, without the program around it: objects in, kernel out.

use std::time::Duration;

use ipvs_netlink::Timeouts;
use kube_ipvs::sync::Syncer;
use kube_ipvs_core::event::Kind;
use kube_ipvs_core::k8s::Object;
use kube_ipvs_core::{Cluster, Event, Options};
use kube_ipvs_dataplane::linux::{Linux, Setup};
use kube_ipvs_dataplane::record::RecordFile;
use kube_ipvs_dataplane::sysctl::{self, Sysctls};
use kube_ipvs_nft::{Config, LocalPods};
use kube_ipvs_tests::Node;
use kube_ipvs_vip::Binding;
use serde_json::Value;

const KINDS: [Kind; 4] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::ServiceCidr,
    Kind::Node,
];

/// What a node's proxier is told at its start.
pub(crate) struct Proxy {
    pub(crate) setup: Setup,
    pub(crate) options: Options,
    state: tempfile::TempDir,
}

impl Proxy {
    /// For the node `name`, which knows its pods by their addresses.
    pub(crate) fn new(node: &Node, name: &str, binding: Binding) -> Self {
        let pods = node.pod_cidrs().map(|net| net.parse().expect("a network"));
        let tables = kube_ipvs_nft::Family::ALL.map(|family| Config {
            local_pods: LocalPods::Cidrs(pods.to_vec()),
            ..Config::new(family)
        });
        Self {
            setup: Setup {
                link: "kube-ipvs0".to_owned(),
                binding,
                tables: tables.into(),
                sysctls: Sysctls::wanted(sysctl::Options {
                    ipv6: true,
                    strict_arp: false,
                    run_estimation: None,
                }),
                sysctl_root: "/proc/sys".into(),
                timeouts: Timeouts {
                    tcp: 7800,
                    tcp_fin: 0,
                    udp: 0,
                },
            },
            options: Options {
                node_name: name.to_owned(),
                detect_local: true,
                allow_external_ips: ["0.0.0.0/0", "::/0"]
                    .map(|n| n.parse().expect("a net"))
                    .into(),
                ..Options::default()
            },
            state: tempfile::tempdir().expect("make a state directory"),
        }
    }

    /// A syncer that has read `objects`; to be used in the node's namespace.
    pub(crate) fn syncer(&self, objects: &[Value]) -> Syncer<Linux> {
        let dataplane = Linux::open(self.setup.clone()).expect("open the dataplane");
        let record = RecordFile::open(self.state.path()).expect("open the record");
        let cluster = Cluster::new(self.options.clone());
        let mut syncer = Syncer::new(cluster, dataplane, record, Duration::from_secs(900));
        syncer.look_at_host().expect("read the host's addresses");
        KINDS
            .into_iter()
            .for_each(|kind| syncer.event(Event::ListStarted(kind)));
        for object in objects {
            syncer.event(Event::Upsert(decode(object)));
        }
        KINDS
            .into_iter()
            .for_each(|kind| syncer.event(Event::ListCompleted(kind)));
        syncer
    }
}

/// One round that must be clean.
#[track_caller]
pub(crate) fn sync(syncer: &mut Syncer<Linux>) {
    let round = syncer.sync(0).expect("sync").expect("all lists are there");
    assert!(
        round.report.refused.is_empty(),
        "{:?}",
        round.report.refused
    );
    let warnings = syncer.cluster().warnings();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// The object a manifest describes.
pub(crate) fn decode(manifest: &Value) -> Object {
    let kind = match manifest["kind"].as_str() {
        Some("Service") => Kind::Service,
        Some("EndpointSlice") => Kind::EndpointSlice,
        Some("Node") => Kind::Node,
        other => panic!("no kind {other:?}"),
    };
    Object::decode(kind, manifest.clone()).expect("a sound manifest")
}

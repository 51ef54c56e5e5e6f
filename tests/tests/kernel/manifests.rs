//! A Service on both families, in a directory that a daemon reads.

use kube_ipvs_tests::apiserver::endpoint_slice;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of manifests.
pub(crate) struct Manifests(TempDir);

impl Manifests {
    /// One that has these objects.
    pub(crate) fn of(objects: &[Value]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let list = json!({"kind": "List", "apiVersion": "v1", "items": objects});
        let file = directory.path().join("all.json");
        std::fs::write(file, list.to_string()).expect("write manifests");
        Self(directory)
    }

    /// Puts a file beside them.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("write a manifest");
    }

    /// Takes one away.
    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).expect("remove a manifest");
    }

    /// The arguments of a daemon that serves them as node-1.
    pub(crate) fn run(&self, more: &[&str]) -> Vec<String> {
        let path = self.0.path().to_string_lossy();
        let mut all = ["run", "--hostname-override=node-1", "--manifests", &path].to_vec();
        all.extend(more);
        all.into_iter().map(str::to_owned).collect()
    }
}

/// default/web: 10.96.0.10, fd00:96::10 and NodePort 30080.
pub(crate) fn web() -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{
                "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP",
            }],
        },
    })
}

/// Its endpoints of one family: addresses and their nodes.
pub(crate) fn web_slice(name: &str, endpoints: &[(&str, &str)]) -> Value {
    let mut slice = endpoint_slice("default", "web", name, endpoints);
    slice["ports"][0]["name"] = json!("http");
    slice
}

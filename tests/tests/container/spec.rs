//! Pods as they are written: in `deploy/base`, and in the guides.
//!
//! Every field must be known here. One that is not fails the test, since a
//! kubelet would do something that the test does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

/// What a pod asks a kubelet for.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) init: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    /// Seconds between SIGTERM and SIGKILL.
    pub(crate) grace: u64,
    volumes: Vec<(String, Volume)>,
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) node_name: Vec<String>,
    pub(crate) security: Security,
    /// Name of a volume, path, whether it is read-only.
    pub(crate) mounts: Vec<(String, String, bool)>,
    pub(crate) startup: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    /// Thousandths of a processor.
    pub(crate) cpu: u64,
    /// Bytes.
    pub(crate) memory: u64,
}

/// A `securityContext`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    pub(crate) privileged: bool,
    pub(crate) read_only: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) drop: Vec<String>,
    pub(crate) add: Vec<String>,
    /// `RuntimeDefault`; otherwise a kubelet confines nothing.
    pub(crate) seccomp: bool,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    ConfigMap(String),
    HostPath(String),
}

/// An HTTP probe.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) path: String,
    pub(crate) port: u16,
    pub(crate) period: Duration,
    pub(crate) failures: u64,
}

impl Pod {
    /// That of `deploy/base/daemon-set.yaml`.
    pub(crate) fn base() -> Self {
        let daemon_set: Value =
            serde_saphyr::from_str(include_str!("../../../deploy/base/daemon-set.yaml"))
                .expect("daemon-set.yaml");
        Self::read(&daemon_set["spec"]["template"]["spec"])
    }

    /// That of `deploy/migration`: the pod of the base with one argument more.
    pub(crate) fn migration() -> Self {
        let overlay: Value =
            serde_saphyr::from_str(include_str!("../../../deploy/migration/kustomization.yaml"))
                .expect("kustomization.yaml");
        let changes: Vec<Value> =
            serde_saphyr::from_str(&text(&overlay["patches"][0]["patch"])).expect("a patch");
        let end = "/spec/template/spec/containers/0/args/-";
        let mut pod = Self::base();
        let more = changes.iter().filter(|change| change["path"] == end);
        pod.containers[0]
            .args
            .extend(more.map(|change| text(&change["value"])));
        pod
    }

    /// That of `on_node NODE ARGUMENT...` in docs/migration.md.
    pub(crate) fn on_node(node: &str, arguments: &[&str]) -> Self {
        let guide = include_str!("../../../docs/migration.md");
        let (_, rest) = guide.split_once("--overrides '").expect("the function");
        let (written, _) = rest.split_once("}'\n}").expect("its end");
        let arguments: Vec<String> = arguments.iter().map(|x| format!("{x:?}")).collect();
        let filled = format!("{written}}}")
            .replace(r#"'"$node"'"#, node)
            .replace(r#"'"${arguments#,}"'"#, &arguments.join(","));
        let object: Value =
            serde_json::from_str(&filled).unwrap_or_else(|e| panic!("{e}: {filled}"));
        let pod = Self::read(&object["spec"]);
        assert!(pod.init.is_empty());
        pod
    }

    fn read(spec: &Value) -> Self {
        let mut fields = Fields::of("pod", spec);
        assert_eq!(
            fields.take("hostNetwork"),
            true,
            "the network is the node's"
        );
        // What the scheduler and the API server do with these is not ours to try.
        for other in [
            "serviceAccountName",
            "priorityClassName",
            "nodeSelector",
            "nodeName",
            "tolerations",
        ] {
            fields.take(other);
        }
        let pod = Self {
            grace: fields
                .take("terminationGracePeriodSeconds")
                .as_u64()
                .unwrap_or(30),
            init: list(fields.take("initContainers"))
                .map(Container::read)
                .collect(),
            containers: list(fields.take("containers"))
                .map(Container::read)
                .collect(),
            volumes: list(fields.take("volumes")).map(volume).collect(),
        };
        fields.done();
        pod
    }

    /// Where a volume comes from.
    pub(crate) fn volume(&self, name: &str) -> &Volume {
        let found = self.volumes.iter().find(|(volume, _)| volume == name);
        &found.unwrap_or_else(|| panic!("no volume {name}")).1
    }
}

impl Container {
    fn read(container: Value) -> Self {
        let name = text(&container["name"]);
        let mut fields = Fields::of(&name, &container);
        fields.take("name");
        let image = text(&fields.take("image"));
        assert!(["IMAGE", NAME].contains(&&*image), "{image}");
        let ports: Vec<(String, u16)> = list(fields.take("ports")).map(port).collect();
        let mut probe = |field: &str| probe(fields.take(field), &ports);
        let (startup, liveness, readiness) = (
            probe("startupProbe"),
            probe("livenessProbe"),
            probe("readinessProbe"),
        );
        let (cpu, memory) = requests(fields.take("resources"));
        let container = Self {
            args: list(fields.take("args")).map(|x| text(&x)).collect(),
            node_name: list(fields.take("env")).map(node_name).collect(),
            security: Security::read(&fields.take("securityContext")),
            mounts: list(fields.take("volumeMounts")).map(mount).collect(),
            startup,
            liveness,
            readiness,
            cpu,
            memory,
            name,
        };
        fields.done();
        container
    }
}

impl Security {
    fn read(context: &Value) -> Self {
        let mut fields = Fields::of("securityContext", context);
        let capabilities = fields.take("capabilities");
        let mut sets = Fields::of("capabilities", &capabilities);
        let seccomp = fields.take("seccompProfile");
        assert!(
            seccomp.is_null() || seccomp["type"] == "RuntimeDefault",
            "{seccomp}"
        );
        let read = Self {
            privileged: fields.take("privileged") == true,
            read_only: fields.take("readOnlyRootFilesystem") == true,
            no_new_privileges: fields.take("allowPrivilegeEscalation") == false,
            drop: list(sets.take("drop")).map(|x| text(&x)).collect(),
            add: list(sets.take("add")).map(|x| text(&x)).collect(),
            seccomp: !seccomp.is_null(),
        };
        sets.done();
        fields.done();
        read
    }
}

/// What the manifests call the image.
pub(crate) const NAME: &str = "ghcr.io/kube-ipvs/kube-ipvs";

/// The tag that kustomize puts behind [`NAME`].
pub(crate) fn tag() -> String {
    let base: Value =
        serde_saphyr::from_str(include_str!("../../../deploy/base/kustomization.yaml"))
            .expect("kustomization.yaml");
    assert_eq!(base["images"][0]["name"], NAME);
    text(&base["images"][0]["newTag"])
}

/// Files of the ConfigMap of `deploy/base`, put where a kubelet would, with the
/// API server's address in them.
pub(crate) fn write_config_map(directory: &Path, server: &str) {
    let map: Value = serde_saphyr::from_str(include_str!("../../../deploy/base/config-map.yaml"))
        .expect("config-map.yaml");
    // A kubelet's files are links over a link, so that all change at once.
    let data = directory.join("..2026_11_28");
    fs::create_dir_all(&data).expect("make a directory");
    std::os::unix::fs::symlink("..2026_11_28", directory.join("..data")).expect("link");
    for (name, content) in map["data"].as_object().expect("data") {
        let content = text(content).replace("https://control-plane.example:6443", server);
        fs::write(data.join(name), content).expect("write a file");
        let link = directory.join(name);
        std::os::unix::fs::symlink(format!("..data/{name}"), link).expect("link");
    }
}

/// The fields of an object that are still to be taken.
struct Fields {
    of: String,
    left: Map<String, Value>,
}

impl Fields {
    fn of(name: &str, object: &Value) -> Self {
        Self {
            of: name.to_owned(),
            left: object.as_object().cloned().unwrap_or_default(),
        }
    }

    /// Null when there is none.
    fn take(&mut self, name: &str) -> Value {
        self.left.remove(name).unwrap_or_default()
    }

    #[track_caller]
    fn done(self) {
        let left: Vec<_> = self.left.keys().collect();
        assert!(
            left.is_empty(),
            "{}: the test does not know {left:?}",
            self.of
        );
    }
}

fn list(value: Value) -> impl Iterator<Item = Value> {
    let items = match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => panic!("no list: {other}"),
    };
    items.into_iter()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

fn port(value: Value) -> (String, u16) {
    let number = value["containerPort"].as_u64().expect("a number");
    (text(&value["name"]), u16::try_from(number).expect("a port"))
}

fn probe(value: Value, ports: &[(String, u16)]) -> Option<Probe> {
    value.as_object()?;
    let mut fields = Fields::of("probe", &value);
    let get = fields.take("httpGet");
    let mut request = Fields::of("httpGet", &get);
    let name = text(&request.take("port"));
    let port = ports.iter().find(|(port, _)| *port == name);
    let read = Probe {
        path: text(&request.take("path")),
        port: port.unwrap_or_else(|| panic!("no port {name}")).1,
        period: Duration::from_secs(fields.take("periodSeconds").as_u64().unwrap_or(10)),
        failures: fields.take("failureThreshold").as_u64().unwrap_or(3),
    };
    request.done();
    fields.done();
    Some(read)
}

/// Thousandths of a processor, and bytes. There are no limits.
fn requests(value: Value) -> (u64, u64) {
    let mut fields = Fields::of("resources", &value);
    let requests = fields.take("requests");
    fields.done();
    if requests.is_null() {
        return (0, 0);
    }
    let number = |name: &str, unit: &str| {
        let written = text(&requests[name]);
        let number = written
            .strip_suffix(unit)
            .and_then(|x| x.parse::<u64>().ok());
        number.unwrap_or_else(|| panic!("{name}: {written}"))
    };
    (number("cpu", "m"), number("memory", "Mi") << 20)
}

/// The name of a variable that holds the node's name.
fn node_name(variable: Value) -> String {
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        "spec.nodeName"
    );
    text(&variable["name"])
}

fn mount(value: Value) -> (String, String, bool) {
    let mut fields = Fields::of("mount", &value);
    let read = (
        text(&fields.take("name")),
        text(&fields.take("mountPath")),
        fields.take("readOnly") == true,
    );
    fields.done();
    read
}

fn volume(value: Value) -> (String, Volume) {
    let mut fields = Fields::of("volume", &value);
    let name = text(&fields.take("name"));
    let (map, path) = (fields.take("configMap"), fields.take("hostPath"));
    fields.done();
    if path.is_null() {
        return (name, Volume::ConfigMap(text(&map["name"])));
    }
    assert_eq!(path["type"], "DirectoryOrCreate");
    (name, Volume::HostPath(text(&path["path"])))
}

//! Names that only the cluster knows. kubectl asks for them with the rights of who presses
//! Tab; where it is refused, or not answered soon, there are none.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kube_ipvs_source::tasks::Tasks;
use serde_json::Value;

use super::Candidate;

/// Nobody waits longer for a name.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same, as kubectl is told.
const TIME_OUT: &str = "--request-timeout=2s";
/// Objects of a list at most.
const LIMIT: &str = "limit=500";
/// Bytes of a list at most; one that is longer is no list.
const LONGEST: u64 = 16 << 20;

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `NAMESPACE/NAME` of a Service.
    Service,
    /// `NAMESPACE/NAME` of a pod.
    Pod,
    /// A node on which kube-ipvs runs.
    Node,
    Namespace,
    /// A context of kubectl.
    Context,
}

/// What the cluster is asked with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) context: Option<String>,
    pub(super) namespace: String,
    pub(super) selector: String,
}

/// Names that begin so. Those in a namespace come when the namespace is written.
pub(super) fn of(kind: Kind, written: &str, cluster: &Cluster) -> Vec<Candidate> {
    let found = match (kind, written.split_once('/')) {
        (Kind::Context, _) => cluster.contexts(),
        (Kind::Namespace, _) => cluster.namespaces(),
        (Kind::Node, _) => cluster.nodes(),
        (Kind::Service, Some((namespace, _))) => cluster.within(namespace, "services"),
        (Kind::Pod, Some((namespace, _))) => cluster.within(namespace, "pods"),
        (Kind::Service | Kind::Pod, None) => cluster
            .namespaces()
            .map(|names| names.iter().map(|name| format!("{name}/")).collect()),
    };
    let mut names = found.unwrap_or_default();
    names.retain(|name| name.starts_with(written) && is_plain(name));
    names.sort();
    names.dedup();
    let candidates = names.into_iter().map(|word| Candidate {
        word,
        about: String::new(),
    });
    candidates.collect()
}

/// A line of the answer is one name, and no name is the number at its end.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(':') && name.chars().all(|sign| sign.is_ascii_graphic())
}

impl Cluster {
    fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command
    }

    fn contexts(&self) -> Option<Vec<String>> {
        let mut command = Command::new("kubectl");
        command.args(["config", "get-contexts", "--output", "name"]);
        let said = answer(command)?;
        let said = String::from_utf8_lossy(&said);
        Some(said.lines().map(str::to_owned).collect())
    }

    fn namespaces(&self) -> Option<Vec<String>> {
        let list = self.list("/api/v1/namespaces?")?;
        Some(texts(&list, "/metadata/name"))
    }

    /// `NAMESPACE/NAME` of all in a namespace.
    fn within(&self, namespace: &str, kind: &str) -> Option<Vec<String>> {
        let namespace_in_path = encoded(namespace);
        let list = self.list(&format!("/api/v1/namespaces/{namespace_in_path}/{kind}?"))?;
        let names = texts(&list, "/metadata/name").into_iter();
        Some(names.map(|name| format!("{namespace}/{name}")).collect())
    }

    fn nodes(&self) -> Option<Vec<String>> {
        let (namespace, selector) = (encoded(&self.namespace), encoded(&self.selector));
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}&");
        Some(texts(&self.list(&path)?, "/spec/nodeName"))
    }

    /// A list by its path alone, which is one request: by its name kubectl would first ask
    /// what kinds there are.
    fn list(&self, path: &str) -> Option<Value> {
        let mut command = self.kubectl();
        command.args(["get", TIME_OUT, "--raw", &format!("{path}{LIMIT}")]);
        serde_json::from_slice(&answer(command)?).ok()
    }
}

/// The text at a place of each object in a list.
fn texts(list: &Value, place: &str) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    let texts = items.filter_map(|item| item.pointer(place)?.as_str());
    texts.map(str::to_owned).collect()
}

/// As it stands in a path or a query.
fn encoded(text: &str) -> String {
    let sign = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(sign).collect()
}

/// What a program prints, if it ends well and soon. One that does not end is ended.
fn answer(mut command: Command) -> Option<Vec<u8>> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let stdout = child.stdout.take();
    let (tell, told) = mpsc::sync_channel(1);
    let reading = Tasks::thread("kubectl", move || {
        let mut said = Vec::new();
        let read = stdout.map(|stdout| stdout.take(LONGEST).read_to_end(&mut said));
        // Who waited may have gone.
        _ = tell.send(read.is_some_and(|read| read.is_ok()).then_some(said));
    });
    let said = reading.ok().and_then(|_| told.recv_timeout(PATIENCE).ok());
    if said.is_none() {
        // It may have ended by itself just now.
        _ = child.kill();
    }
    let ended = child.wait().ok()?;
    said?.filter(|_| ended.success())
}

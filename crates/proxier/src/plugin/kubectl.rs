//! What is asked of kubectl.

use std::process::{Command, Output};

use anyhow::{Context, bail, ensure};
use kube_ipvs_source::tasks::Tasks;
use serde_json::Value;

use super::answers::Answer;

/// The container of a pod.
const CONTAINER: &str = "kube-ipvs";

/// How kubectl is called.
#[derive(Debug, Clone)]
pub(super) struct Kubectl {
    context: Option<String>,
    namespace: String,
}

/// A pod of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) node: String,
    /// `Running`, or why it cannot be asked.
    pub(super) phase: String,
}

impl Kubectl {
    pub(super) fn new(context: Option<String>, namespace: String) -> Self {
        Self { context, namespace }
    }

    fn command(&self, namespace: &str) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.args(["--namespace", namespace]);
        command
    }

    /// The daemon's pods, by node.
    ///
    /// # Errors
    /// kubectl is not there, or refuses.
    pub(super) fn pods(&self, selector: &str) -> anyhow::Result<Vec<Pod>> {
        let mut command = self.command(&self.namespace);
        command.args(["get", "pods", "--selector", selector, "--output", "json"]);
        let list = json(&mut command).context("list the pods of kube-ipvs")?;
        let items = list["items"]
            .as_array()
            .context("kubectl gave no list of pods")?;
        let mut pods: Vec<_> = items.iter().filter_map(pod).collect();
        pods.sort_by(|a, b| (&a.node, &a.name).cmp(&(&b.node, &b.name)));
        Ok(pods)
    }

    /// The node of any pod, `[NAMESPACE/]NAME`.
    ///
    /// # Errors
    /// There is none, or it has no node yet.
    pub(super) fn node_of(&self, pod: &str) -> anyhow::Result<String> {
        let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
        let mut command = self.command(namespace);
        command.args(["get", "pods", "--output", "json", "--", name]);
        let pod = json(&mut command).with_context(|| format!("look for pod {namespace}/{name}"))?;
        let node = pod["spec"]["nodeName"].as_str();
        let node = node.with_context(|| format!("pod {namespace}/{name} has no node yet"))?;
        Ok(node.to_owned())
    }

    /// Runs a command in pods at the same time, and waits for all.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub(super) fn ask(&self, pods: &[Pod], command: &[String]) -> anyhow::Result<Vec<Answer>> {
        let mut waiting = Vec::with_capacity(pods.len());
        for pod in pods {
            let (kubectl, pod, command) = (self.clone(), pod.clone(), command.to_vec());
            waiting.push(Tasks::thread("kubectl", move || {
                kubectl.exec(&pod, &command)
            })?);
        }
        let answers = waiting.into_iter().map(|thread| match thread.join() {
            Ok(answer) => Ok(answer),
            Err(_) => bail!("a thread that waited for kubectl panicked"),
        });
        answers.collect()
    }

    fn exec(&self, pod: &Pod, words: &[String]) -> Answer {
        if pod.phase != "Running" {
            let why = format!(
                "its pod {} is {}, so it cannot be asked\n",
                pod.name, pod.phase
            );
            return Answer::failed(&pod.node, why);
        }
        let mut command = self.command(&self.namespace);
        command.args(["exec", &pod.name, "--container", CONTAINER, "--"]);
        match run(command.args(words)) {
            Ok(output) => Answer::of(&pod.node, &output),
            Err(error) => Answer::failed(&pod.node, format!("{error:#}\n")),
        }
    }
}

fn pod(object: &Value) -> Option<Pod> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Pod {
        name: text(&object["metadata"]["name"])?,
        // One without a node is nowhere yet.
        node: text(&object["spec"]["nodeName"])?,
        phase: text(&object["status"]["phase"]).unwrap_or_else(|| "in no phase".to_owned()),
    })
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    command
        .output()
        .context("run kubectl: is it installed, and on the PATH?")
}

fn json(command: &mut Command) -> anyhow::Result<Value> {
    let output = run(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("read what kubectl printed")
}

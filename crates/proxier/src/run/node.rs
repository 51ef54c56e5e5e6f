//! This node's object, asked for once before the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kube_ipvs_core::k8s::Node;
use kube_ipvs_source::kube::{KubeConfig, SourceStatus, connect};
use tokio::runtime::Builder;

use crate::config::{Settings, user_agent};

/// How long to wait for a Node whose networks must be known.
const NEEDED: Duration = Duration::from_secs(300);
/// How long to wait for a Node that is merely useful.
const USEFUL: Duration = Duration::from_secs(5);
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the API server for this node. None when it does not know it, or does
/// not answer in time: the watch tells later.
///
/// # Errors
/// When the configuration of the client is wrong, or the Node must be known
/// (`--detect-local-mode=NodeCIDR`) and is not after five minutes.
pub fn own_node(settings: &Settings, name: &str) -> anyhow::Result<Option<Node>> {
    let config = KubeConfig {
        path: settings.client.kubeconfig.clone(),
        server: settings.client.master.clone(),
        more: settings.client.more.clone(),
        agent: user_agent(),
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(async {
        let client = connect(&config, &Arc::new(SourceStatus::default()))
            .await
            .context("connect to the API server")?;
        let patience = if settings.needs_node() {
            NEEDED
        } else {
            USEFUL
        };
        let deadline = Instant::now() + patience;
        loop {
            let why = match tokio::time::timeout(patience, get(&client, name)).await {
                Ok(Ok(node)) => return Ok(Some(node)),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + PAUSE > deadline {
                anyhow::ensure!(!settings.needs_node(), "Node {name} is needed: {why}");
                tracing::warn!(node = name, %why, "this node's object is not known yet");
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn get(client: &kube::Client, name: &str) -> anyhow::Result<Node> {
    let request = http::Request::get(format!("/api/v1/nodes/{name}"))
        .body(Vec::new())
        .context("make a request")?;
    client
        .request::<Node>(request)
        .await
        .with_context(|| format!("get Node {name}"))
}

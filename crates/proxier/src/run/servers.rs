//! The HTTP servers of a run.

use kube_ipvs_source::tasks::{Task, Tasks};

use super::Program;
use crate::health::connections::Connections;
use crate::health::{Health, diagnostics, probes, server};

/// Starts those that are wanted. A port that cannot be bound is tried again, or
/// with hard-fail ends the server, and so the program.
pub(super) fn start(
    tasks: &Tasks,
    connections: &Connections,
    program: &Program,
    health: &Health,
) -> Vec<Task> {
    let mut servers = Vec::new();
    let hard_fail = program.bind_hard_fail;
    if let Some(address) = program.healthz {
        let router = probes::router(health.clone());
        let serving = server::serve(
            connections.clone(),
            "health server",
            address,
            hard_fail,
            router,
        );
        servers.push(tasks.spawn("health server", told(serving)));
    }
    if let Some(address) = program.metrics {
        let router = diagnostics::router(health.clone(), program.pages.clone());
        let serving = server::serve(
            connections.clone(),
            "metrics server",
            address,
            hard_fail,
            router,
        );
        servers.push(tasks.spawn("metrics server", told(serving)));
    }
    servers
}

/// Says why a server ended.
async fn told(serving: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{error:#}");
    }
}

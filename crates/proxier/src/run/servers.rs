//! The HTTP servers of a run.

use tokio::runtime::Runtime;

use super::Program;
use crate::health::{Health, diagnostics, probes, server};

/// Starts those that are wanted.
///
/// # Errors
/// None today: a port that cannot be bound is tried again, or with hard-fail
/// ends the program.
pub(super) fn start(runtime: &Runtime, program: &Program, health: &Health) -> anyhow::Result<()> {
    let hard_fail = program.bind_hard_fail;
    if let Some(address) = program.healthz {
        let router = probes::router(health.clone());
        runtime.spawn(guarded(async move {
            server::serve("health server", address, hard_fail, router).await
        }));
    }
    if let Some(address) = program.metrics {
        let router = diagnostics::router(health.clone(), program.pages.clone());
        runtime.spawn(guarded(async move {
            server::serve("metrics server", address, hard_fail, router).await
        }));
    }
    Ok(())
}

/// A server that ends was told to fail hard: so does the program.
async fn guarded(serving: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{error:#}");
        std::process::exit(1);
    }
}

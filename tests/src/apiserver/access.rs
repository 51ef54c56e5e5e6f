//! A client of the fake server, made from a kubeconfig as the program makes its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;
use kube_ipvs_source::kube::{KubeConfig, SourceStatus, connect};
use tempfile::TempDir;

use super::ApiServer;

/// A client, and what belongs to it.
pub struct Access {
    /// The client; it reads the kubeconfig again when that changes.
    pub client: Client,
    /// Where its requests are counted.
    pub status: Arc<SourceStatus>,
    directory: TempDir,
}

impl Access {
    /// By the server's own kubeconfig.
    pub async fn to(server: &ApiServer) -> Self {
        Self::through(&server.kubeconfig()).await
    }

    /// By the text of a kubeconfig. Nothing is sent yet.
    ///
    /// # Panics
    /// When the text is no kubeconfig: a mistake in the test.
    pub async fn through(text: &str) -> Self {
        Self::with(text, &[]).await
    }

    /// By the text of a kubeconfig and further addresses of its API server.
    ///
    /// # Panics
    /// As [`Access::through`].
    pub async fn with(text: &str, more: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = file_in(directory.path());
        std::fs::write(&file, text).expect("write the kubeconfig");
        let status = Arc::new(SourceStatus::default());
        let config = KubeConfig {
            path: Some(file),
            more: more
                .iter()
                .map(|server| server.to_string().parse().expect("an address"))
                .collect(),
            agent: kube_ipvs::config::user_agent(),
            ..KubeConfig::default()
        };
        let client = connect(&config, &status).await.expect("a client");
        Self {
            client,
            status,
            directory,
        }
    }

    /// The kubeconfig's file.
    pub fn kubeconfig(&self) -> PathBuf {
        file_in(self.directory.path())
    }
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("kubeconfig")
}

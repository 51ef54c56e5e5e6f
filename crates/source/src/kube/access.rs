//! How to reach the API server: a kubeconfig, or what a pod is given.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::kube::Config;
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use anyhow::{Context, bail};
use http::uri::Authority;

use crate::input::file;

/// Where the API server's address and our credentials are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeConfig {
    /// A kubeconfig file; none means in-cluster.
    pub path: Option<PathBuf>,
    /// URL of the API server, if not the one configured (kube-proxy's `--master`).
    pub server: Option<String>,
    /// Further addresses of the same API server, by which it is reached when
    /// that one does not answer.
    pub more: Vec<Authority>,
    /// How requests name the program (`User-Agent`).
    pub agent: String,
}

impl KubeConfig {
    /// Host and port of the API server, as in its URL: `10.0.0.1:6443`.
    ///
    /// # Errors
    ///
    /// When the configuration is missing, unreadable or wrong.
    pub async fn authority(&self) -> anyhow::Result<String> {
        let config = self.read().await?;
        Ok(config
            .cluster_url
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default())
    }

    /// The client's configuration, read anew.
    pub(super) async fn read(&self) -> anyhow::Result<Config> {
        let mut config = match &self.path {
            Some(path) => from_file(path)
                .await
                .with_context(|| format!("kubeconfig {}", path.display()))?,
            None => Config::incluster_env().context(
                "in-cluster configuration: not in a pod, or its service account is not mounted; \
                 give --kubeconfig FILE or --manifests DIR",
            )?,
        };
        let agent = http::HeaderValue::from_str(&self.agent).context("name this program")?;
        config.headers.push((http::header::USER_AGENT, agent));
        if let Some(server) = &self.server {
            config.cluster_url = server
                .parse()
                .with_context(|| format!("API server URL {server:?}"))?;
        }
        if config.cluster_url.host().is_none() {
            bail!(
                "API server URL {}: it names no host; write https://HOST:PORT",
                config.cluster_url
            );
        }
        Ok(config)
    }

    /// The files that credentials come from, with what tells that they
    /// changed. In-cluster files are watched by the client itself.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let Some(path) = &self.path else {
            return Vec::new();
        };
        let mut files = vec![path.clone()];
        if let Ok(kubeconfig) = read(path) {
            files.extend(credentials(&kubeconfig));
        }
        files.into_iter().map(Stamp::of).collect()
    }
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    written: Option<(SystemTime, u64)>,
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let metadata = std::fs::metadata(&path).ok();
        let written =
            metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        Self { path, written }
    }
}

/// The kubeconfig, paths in it made absolute. The reader of the library takes
/// whatever it finds, a FIFO or a file without end too, so ours looks first.
fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    file::read(path, file::CONFIGURATION)?;
    Ok(Kubeconfig::read_from(path)?)
}

/// The files of certificates and keys that it names.
fn credentials(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = kubeconfig.clusters.iter();
    let clusters = clusters.filter_map(|named| named.cluster.as_ref());
    let authorities = clusters.filter_map(|cluster| cluster.certificate_authority.as_ref());
    let users = kubeconfig.auth_infos.iter();
    let users = users.filter_map(|named| named.auth_info.as_ref());
    let pairs = users.flat_map(|user| [&user.client_certificate, &user.client_key]);
    let files = authorities.chain(pairs.flatten());
    files.map(PathBuf::from).collect()
}

/// The files of tokens that it names.
fn tokens(kubeconfig: &Kubeconfig) -> impl Iterator<Item = PathBuf> + '_ {
    let users = kubeconfig.auth_infos.iter();
    let users = users.filter_map(|named| named.auth_info.as_ref());
    let files = users.filter_map(|user| user.token_file.as_ref());
    files.map(PathBuf::from)
}

async fn from_file(path: &Path) -> anyhow::Result<Config> {
    let kubeconfig = read(path)?;
    for named in credentials(&kubeconfig)
        .into_iter()
        .chain(tokens(&kubeconfig))
    {
        file::read(&named, file::CONFIGURATION)
            .with_context(|| format!("read {}", named.display()))?;
    }
    if let Some(proxy) = kubeconfig
        .clusters
        .iter()
        .find_map(|named| named.cluster.as_ref()?.proxy_url.as_ref())
    {
        bail!("proxy-url {proxy:?} is not supported: connect to the API server directly");
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let user = &config.auth_info;
    if user.exec.is_some() || user.auth_provider.is_some() {
        bail!(
            "its user gets credentials from a program (exec or auth-provider), and none is started: \
             give the user a tokenFile or a client certificate"
        );
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(text: Option<&str>) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("kubeconfig");
        if let Some(text) = text {
            std::fs::write(&path, text).expect("write a kubeconfig");
        }
        let config = KubeConfig {
            path: Some(path.clone()),
            ..KubeConfig::default()
        };
        let error = config.read().await.expect_err("the kubeconfig is wrong");
        let message = format!("{error:#}");
        assert!(
            message.contains(&path.display().to_string()),
            "names the file: {message}"
        );
        message
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_neither_waited_for_nor_read() {
        let zero = |field: &str| {
            let named =
                |kind: &str, body: &str| format!("{kind}s: [{{name: x, {kind}: {{{body}}}}}]");
            let (cluster, user) = match field {
                "certificate-authority" => (
                    format!("{field}: /dev/zero, server: 'https://a'"),
                    String::new(),
                ),
                _ => (
                    "server: 'https://a'".to_owned(),
                    format!("{field}: /dev/zero"),
                ),
            };
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: x\n{}\n{}\n{}\n",
                named("cluster", &cluster),
                named("user", &user),
                named("context", "cluster: x, user: x")
            )
        };
        for field in [
            "certificate-authority",
            "client-certificate",
            "client-key",
            "tokenFile",
        ] {
            let told = refusal(Some(&zero(field))).await;
            assert!(told.contains("read /dev/zero: a device"), "{field}: {told}");
        }
        let config = KubeConfig {
            path: Some("/dev/zero".into()),
            ..KubeConfig::default()
        };
        let told = format!("{:#}", config.read().await.expect_err("a device"));
        assert!(told.contains("a device, not a regular file"), "{told}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let config = KubeConfig {
            path: Some(fifo),
            ..KubeConfig::default()
        };
        let told = format!("{:#}", config.read().await.expect_err("a FIFO"));
        assert!(told.contains("a FIFO, not a regular file"), "{told}");
        assert!(config.stamps().len() == 1, "and is not waited for later");
    }

    #[tokio::test]
    async fn missing_kubeconfig_is_named() {
        assert!(refusal(None).await.contains("No such file"));
    }

    #[tokio::test]
    async fn kubeconfig_that_is_no_yaml_is_refused() {
        refusal(Some("{clusters: [")).await;
    }

    #[tokio::test]
    async fn kubeconfig_whose_context_is_missing_is_refused() {
        let message = refusal(Some(
            "{current-context: gone, contexts: [], clusters: [], users: []}",
        ))
        .await;

        assert!(message.contains("gone"), "{message}");
    }

    #[tokio::test]
    async fn empty_kubeconfig_is_refused() {
        refusal(Some("")).await;
    }

    #[tokio::test]
    async fn kubeconfig_that_wants_a_proxy_is_refused() {
        let text = "{current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                    clusters: [{name: a, cluster: {server: 'https://10.0.0.1:6443', proxy-url: 'http://proxy:3128'}}], \
                    users: [{name: a, user: {}}]}";

        assert!(refusal(Some(text)).await.contains("proxy-url"));
    }

    #[tokio::test]
    async fn kubeconfig_whose_credentials_a_program_gives_is_refused_and_none_is_started() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let trace = directory.path().join("started");
        let exec = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, \
             args: ['{}'], interactiveMode: Never}}",
            trace.display()
        );
        let provider = format!(
            "auth-provider: {{name: gcp, config: {{cmd-path: touch, cmd-args: '{}'}}}}",
            trace.display()
        );
        for user in [exec, provider] {
            let text = format!(
                "{{current-context: a, contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
                 clusters: [{{name: a, cluster: {{server: 'https://10.0.0.1:6443'}}}}], \
                 users: [{{name: a, user: {{{user}}}}}]}}"
            );

            let told = refusal(Some(&text)).await;

            assert!(told.contains("give the user a tokenFile"), "{told}");
        }
        assert!(!trace.exists());
    }
}

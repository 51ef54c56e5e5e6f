//! The metrics server, by default at `127.0.0.1:10249`.
//!
//! Paths, bodies and headers are kube-proxy's; `/proxyMode` is read by other
//! software on the node to find out what serves Services.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};

use super::Health;
use super::probes::not_found;
use crate::metrics::CONTENT_TYPE;

/// `X-Content-Type-Options`.
const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");
const PLAIN: &str = "text/plain; charset=utf-8";

/// `/metrics`, `/healthz`, `/proxyMode`, `/configz`.
///
/// `configuration` is the `KubeProxyConfiguration` in force.
pub fn router(health: Health, configuration: Value) -> Router {
    let configz = json!({"kubeproxy.config.k8s.io": configuration});
    Router::new()
        .route("/metrics", any(metrics))
        .route("/metrics/slis", any(slis))
        .route("/healthz", any(|| plain("ok")))
        .route("/healthz/ping", any(|| plain("ok")))
        .route("/proxyMode", any(|| plain("ipvs")))
        .route("/configz", any(|| async move { axum::Json(configz) }))
        .fallback(not_found)
        .with_state(health)
}

async fn plain(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, PLAIN)], [NOSNIFF], body).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    // A collector may dump the kernel's table: not on a thread that serves others.
    let page = tokio::task::spawn_blocking(move || {
        let not_ready = health.not_ready();
        health
            .metrics
            .not_ready(not_ready.keys().map(String::as_str));
        health.metrics.render(health.now().instant)
    });
    match page.await {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(error) => (
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            format!("render metrics: {error}\n"),
        )
            .into_response(),
    }
}

/// The health check that monitoring of service levels reads: `/healthz/ping`, always good.
async fn slis() -> Response {
    let page = "\
# HELP kubernetes_healthcheck Result of the health check, 1 is good.
# TYPE kubernetes_healthcheck gauge
kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1
";
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::health::testing::{TestClock, get, health};

    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let configuration = json!({"kind": "KubeProxyConfiguration", "mode": "ipvs"});
        let health = health(&TestClock::new());
        health.set_reason("source", Some("silent".into()));
        let router = router(health, configuration);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn proxy_mode_is_four_bytes() {
        let answer = get(served().await, "/proxyMode").await;

        assert_eq!(answer.code, 200);
        assert_eq!(answer.body, "ipvs");
        assert_eq!(answer.header("content-type"), Some(PLAIN));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }

    #[tokio::test]
    async fn healthz_of_this_server_is_only_a_ping() {
        let to = served().await;

        assert_eq!(get(to, "/healthz").await.body, "ok");
        assert_eq!(get(to, "/livez").await.code, 404);
        assert_eq!(get(to, "/readyz").await.code, 404);
    }

    #[tokio::test]
    async fn configz_wraps_the_configuration() {
        let answer = get(served().await, "/configz").await;

        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["kubeproxy.config.k8s.io"]["mode"], "ipvs");
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_and_know_the_reasons() {
        let answer = get(served().await, "/metrics").await;

        assert_eq!(answer.header("content-type"), Some(CONTENT_TYPE));
        for line in [
            "kube_ipvs_not_ready{reason=\"source\"} 1",
            "kube_ipvs_not_ready{reason=\"first-sync\"} 1",
        ] {
            assert!(answer.body.contains(line), "{}", answer.body);
        }
        assert!(!answer.body.contains("# EOF"));
    }
}

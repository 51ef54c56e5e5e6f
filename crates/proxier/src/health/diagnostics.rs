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
use tokio::sync::Semaphore;

use super::probes::not_found;
use super::reply::{NOSNIFF, PLAIN, Server};
use super::{Health, zpages};
use crate::metrics::CONTENT_TYPE;

/// Whose turn it is to make a page of metrics.
static RENDERING: Semaphore = Semaphore::const_new(1);

/// What the metrics server shows of the program, besides metrics.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// The `KubeProxyConfiguration` in force.
    pub configuration: Value,
    /// Flags and their values, for `/flagz`; none is 404.
    pub flags: Option<Vec<(&'static str, String)>>,
    /// Whether there is a `/statusz`.
    pub statusz: bool,
}

/// `/metrics`, `/healthz`, `/proxyMode`, `/configz`, `/statusz`, `/flagz`.
///
/// `/debug/pprof` and `/debug/flags` are not among them: they show and set what
/// only a Go program has.
pub fn router(health: Health, pages: Pages) -> Router {
    let configz = json!({"kubeproxy.config.k8s.io": pages.configuration});
    let mut paths = vec!["/configz", "/healthz", "/metrics", "/proxyMode"];
    let mut router = Router::new()
        .route("/metrics", any(metrics))
        .route("/metrics/slis", any(slis))
        .route("/healthz", any(|| plain("ok")))
        .route("/healthz/ping", any(|| plain("ok")))
        .route("/proxyMode", any(|| plain("ipvs")))
        .route("/configz", any(|| async move { axum::Json(configz) }));
    if pages.flags.is_some() {
        router = router.route("/flagz", any(zpages::flagz));
        paths.push("/flagz");
    }
    if pages.statusz {
        router = router.route("/statusz", any(zpages::statusz));
        paths.push("/statusz");
    }
    paths.sort_unstable();
    let started = health.now();
    router.fallback(not_found).with_state(Server {
        health,
        started,
        flags: pages.flags.unwrap_or_default().into(),
        paths: paths.into(),
    })
}

async fn plain(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, PLAIN)], [NOSNIFF], body).into_response()
}

async fn metrics(State(Server { health, .. }): State<Server>) -> Response {
    // A page may be megabytes: one at a time. Nobody closes the semaphore.
    let _turn = RENDERING.acquire().await;
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
        let pages = Pages {
            configuration: json!({"kind": "KubeProxyConfiguration", "mode": "ipvs"}),
            flags: Some(vec![("config", "/conf".into()), ("v", "2".into())]),
            statusz: true,
        };
        serve(pages, &TestClock::new()).await
    }

    async fn serve(pages: Pages, clock: &TestClock) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let health = health(clock);
        health.set_reason("source", Some("silent".into()));
        let router = router(health, pages);
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

    #[tokio::test]
    async fn statusz_says_since_when_and_what() {
        let clock = TestClock::new();
        let pages = Pages {
            statusz: true,
            ..Pages::default()
        };
        let to = serve(pages, &clock).await;
        clock.advance(2 * 3600 + 61);

        let answer = get(to, "/statusz").await;

        assert_eq!(answer.code, 200);
        assert_eq!(answer.header("content-type"), Some(PLAIN));
        let (head, body) = answer.body.split_once("\n\n").expect("a head");
        assert!(head.starts_with("\nkube-proxy statusz\n"), "{head}");
        assert_eq!(
            body,
            concat!(
                "Started: Fri Jan  2 03:04:05 UTC 2026\n",
                "Up: 2 hr 01 min 01 sec\n",
                "Binary version: kube-ipvs ",
                env!("CARGO_PKG_VERSION"),
                "\nEmulation version: 1.37\n",
                "Paths: /configz /healthz /metrics /proxyMode /statusz\n",
            )
        );
    }

    #[tokio::test]
    async fn flagz_has_a_line_for_each_flag() {
        let answer = get(served().await, "/flagz").await;

        assert_eq!(answer.header("content-type"), Some(PLAIN));
        assert!(
            answer.body.starts_with("\nkube-proxy flags\n"),
            "{}",
            answer.body
        );
        assert!(answer.body.ends_with("\n\nconfig=/conf\nv=2\n"));
    }

    #[tokio::test]
    async fn pages_that_are_switched_off_and_those_of_go_are_not_there() {
        let to = serve(Pages::default(), &TestClock::new()).await;

        for path in ["/statusz", "/flagz", "/debug/pprof/", "/debug/flags/v"] {
            assert_eq!(get(to, path).await.code, 404, "{path}");
        }
    }
}

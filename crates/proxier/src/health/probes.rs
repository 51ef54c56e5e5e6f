//! The health server, by default at `0.0.0.0:10256`.
//!
//! `/healthz` and `/livez` answer what kube-proxy answers, byte for byte in
//! form: load balancers read the status code, people the body. `/readyz` is
//! ours and says why not.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use jiff::Timestamp;
use kube_ipvs_core::escape::Escaped;
use kube_ipvs_core::state::Family;
use serde_json::{Map, Value, json};

use super::reply::NOSNIFF;
use super::{Health, Moment, Report};
use crate::metrics::HealthPath;

/// What Go prints for a time that never was; clients may parse it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// `/healthz`, `/livez` and `/readyz`; any method.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", any(healthz))
        .route("/livez", any(livez))
        .route("/readyz", any(readyz))
        .fallback(not_found)
        .with_state(health)
}

/// The answer to a path that is not served, as Go's server gives it.
pub(super) async fn not_found() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (
        StatusCode::NOT_FOUND,
        headers,
        [NOSNIFF],
        "404 page not found\n",
    )
        .into_response()
}

async fn healthz(State(health): State<Health>) -> Response {
    let report = health.report();
    let good = report.healthy && report.node_eligible;
    answer(&health, HealthPath::Healthz, &report, good)
}

async fn livez(State(health): State<Health>) -> Response {
    let report = health.report();
    answer(&health, HealthPath::Livez, &report, report.healthy)
}

fn answer(health: &Health, path: HealthPath, report: &Report, good: bool) -> Response {
    let code = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    health.metrics.health_answered(path, code.as_u16());
    let eligible = (path == HealthPath::Healthz).then_some(report.node_eligible);
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (
        code,
        headers,
        [NOSNIFF],
        body(report, health.now(), good, eligible),
    )
        .into_response()
}

/// `lastUpdated` of a good answer is now: clients of old took it for a sign of life.
fn body(report: &Report, now: Moment, good: bool, node_eligible: Option<bool>) -> String {
    let updated = if good {
        now.wall.to_string()
    } else {
        printed(report.updated().map(|at| now.wall_at(at)))
    };
    // Written by hand: the order of the keys is kube-proxy's.
    let eligible = node_eligible.map_or(String::new(), |eligible| {
        format!("\"nodeEligible\":{eligible},")
    });
    format!(
        "{{\"lastUpdated\":\"{updated}\",\"currentTime\":\"{}\",{eligible}\"healthy\":{},\"status\":{}}}",
        now.wall,
        report.healthy,
        families(report, now)
    )
}

fn families(report: &Report, now: Moment) -> String {
    let families: Vec<String> = report
        .families
        .iter()
        .map(|(family, syncs)| {
            let name = match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            };
            let updated = printed(syncs.updated.map(|at| now.wall_at(at)));
            let healthy = syncs.healthy;
            format!("\"{name}\":{{\"lastUpdated\":\"{updated}\",\"healthy\":{healthy}}}")
        })
        .collect();
    format!("{{{}}}", families.join(","))
}

fn printed(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// `ok`, or a line for each reason; `?format=json` for programs.
async fn readyz(State(health): State<Health>, uri: Uri) -> Response {
    let reasons = health.not_ready();
    let code = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if asks_for(&uri, "format=json") {
        let reasons: Map<String, Value> = reasons
            .into_iter()
            .map(|(key, reason)| (key, Value::from(reason)))
            .collect();
        let (refused, count) = health.refused();
        let mut body = json!({"ready": reasons.is_empty(), "reasons": reasons});
        if count > 0 {
            body["refused"] = json!(refused);
            body["refusedCount"] = json!(count);
        }
        let warnings = health.warnings();
        if !warnings.is_empty() {
            body["warnings"] = json!(warnings);
        }
        return (code, [NOSNIFF], axum::Json(body)).into_response();
    }
    let mut text: String = reasons
        .iter()
        .map(|(key, reason)| format!("[-]{key}: {}\n", Escaped(reason)))
        .collect();
    if asks_for(&uri, "verbose") {
        let warnings = health.warnings();
        let warnings = warnings.iter();
        text.extend(warnings.map(|(key, text)| format!("[!]{key}: {}\n", Escaped(text))));
        text.push_str(&refused(&health));
    }
    text.push_str(match (reasons.is_empty(), asks_for(&uri, "verbose")) {
        (true, false) => "ok",
        (true, true) => "[+]first-sync\n[+]sync\nreadyz check passed\n",
        (false, _) => "readyz check failed\n",
    });
    (code, [NOSNIFF], text).into_response()
}

/// A line for each thing that the kernel refuses of a single Service.
fn refused(health: &Health) -> String {
    let (lines, count) = health.refused();
    let more = count - lines.len();
    let listed = lines
        .into_iter()
        .map(|line| format!("[!]refused: {line}\n"));
    let mut text: String = listed.collect();
    if more > 0 {
        text.push_str(&format!("[!]refused: {more} more\n"));
    }
    text
}

fn asks_for(uri: &Uri, word: &str) -> bool {
    uri.query()
        .is_some_and(|query| query.split('&').any(|part| part == word))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::health::Node;
    use crate::health::testing::{TestClock, get, health, request};

    async fn served(health: &Health) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let router = router(health.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// Both families synced at the clock's start, node known.
    fn synced(clock: &TestClock) -> Health {
        let health = health(clock);
        health.set_node(Node::Eligible);
        health.queued_update();
        health.updated(Family::V4);
        health.updated(Family::V6);
        health
    }

    #[tokio::test]
    async fn a_long_first_sync_says_how_far_it_is() {
        let clock = TestClock::new();
        let health = health(&clock);
        let at = served(&health).await;
        health.progress().begin(4000);
        health.progress().advance(1500);

        let body = get(at, "/readyz?verbose").await.body;

        let line = "[-]first-sync: no sync has been complete since the start: 1500 of 4000 virtual servers are made\n";
        assert!(body.contains(line), "{body}");
    }

    #[tokio::test]
    async fn healthz_answers_as_kube_proxy() {
        let clock = TestClock::new();
        let health = synced(&clock);
        clock.advance(10);

        let answer = get(served(&health).await, "/healthz").await;

        assert_eq!(answer.code, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(
            answer.body,
            "{\"lastUpdated\":\"2026-01-02T03:04:15Z\",\"currentTime\":\"2026-01-02T03:04:15Z\",\
             \"nodeEligible\":true,\"healthy\":true,\"status\":{\
             \"IPv4\":{\"lastUpdated\":\"2026-01-02T03:04:05Z\",\"healthy\":true},\
             \"IPv6\":{\"lastUpdated\":\"2026-01-02T03:04:05Z\",\"healthy\":true}}}"
        );
    }

    #[tokio::test]
    async fn a_node_that_leaves_fails_healthz_and_not_livez() {
        let clock = TestClock::new();
        let health = synced(&clock);
        let to = served(&health).await;

        for node in [Node::Unknown, Node::Deleting, Node::Draining] {
            health.set_node(node);
            let healthz = get(to, "/healthz").await;
            assert_eq!(healthz.code, 503);
            assert!(
                healthz
                    .body
                    .contains("\"nodeEligible\":false,\"healthy\":true"),
                "{}",
                healthz.body
            );

            let livez = get(to, "/livez").await;
            assert_eq!(livez.code, 200);
            assert!(!livez.body.contains("nodeEligible"), "{}", livez.body);
        }
    }

    #[tokio::test]
    async fn a_sync_that_is_overdue_fails_both_and_says_when_the_last_was() {
        let clock = TestClock::new();
        let health = synced(&clock);
        let to = served(&health).await;

        health.queued_update();
        clock.advance(60);

        let healthz = get(to, "/healthz").await;
        assert_eq!(healthz.code, 503);
        assert!(
            healthz.body.starts_with(
                "{\"lastUpdated\":\"2026-01-02T03:04:05Z\",\"currentTime\":\"2026-01-02T03:05:05Z\""
            ),
            "{}",
            healthz.body
        );
        assert_eq!(get(to, "/livez").await.code, 503);

        health.updated(Family::V4);
        health.updated(Family::V6);
        assert_eq!(get(to, "/healthz").await.code, 200);
    }

    #[tokio::test]
    async fn any_method_is_answered_and_answers_are_counted() {
        let clock = TestClock::new();
        let health = synced(&clock);
        let to = served(&health).await;

        assert_eq!(request(to, "POST", "/healthz").await.code, 200);
        health.set_node(Node::Deleting);
        assert_eq!(get(to, "/healthz").await.code, 503);
        assert_eq!(get(to, "/livez").await.code, 200);

        let page = health.metrics.render(clock.moment().instant);
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1\n",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1\n",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} not in {page}");
        }
    }

    #[tokio::test]
    async fn readyz_names_every_reason_until_it_is_gone() {
        let clock = TestClock::new();
        let health = synced(&clock);
        let to = served(&health).await;
        assert_eq!(get(to, "/readyz").await.body, "ok");

        health.set_reason(
            "nft",
            Some("apply table kube-ipvs: EPERM; add NET_ADMIN".into()),
        );
        let red = get(to, "/readyz").await;
        assert_eq!(red.code, 503);
        assert_eq!(
            red.body,
            "[-]nft: apply table kube-ipvs: EPERM; add NET_ADMIN\nreadyz check failed\n"
        );
        let json = get(to, "/readyz?format=json").await;
        assert_eq!(
            json.body,
            "{\"ready\":false,\"reasons\":{\"nft\":\"apply table kube-ipvs: EPERM; add NET_ADMIN\"}}"
        );

        health.set_reason("nft", None);
        assert_eq!(get(to, "/readyz?verbose").await.code, 200);
    }

    #[tokio::test]
    async fn what_single_services_are_refused_is_listed_and_no_reason() {
        let clock = TestClock::new();
        let health = synced(&clock);
        let to = served(&health).await;
        health.set_refused((0..103).map(|n| format!("thing {n}: EINVAL")).collect());

        let answer = get(to, "/readyz?verbose").await;
        assert_eq!(answer.code, 200);
        assert!(
            answer.body.starts_with("[!]refused: thing 0: EINVAL\n"),
            "{}",
            answer.body
        );
        assert!(
            answer
                .body
                .contains("[!]refused: thing 99: EINVAL\n[!]refused: 3 more\n")
        );
        assert!(!answer.body.contains("thing 100"));
        assert_eq!(get(to, "/readyz").await.body, "ok");
        for path in ["/livez", "/healthz"] {
            assert_eq!(get(to, path).await.code, 200, "{path}");
        }
        let json = get(to, "/readyz?format=json").await.body;
        assert!(json.contains("\"refusedCount\":103"), "{json}");

        health.set_refused(Vec::new());
        assert!(!get(to, "/readyz?verbose").await.body.contains("refused"));
    }

    #[tokio::test]
    async fn a_warning_is_shown_to_who_asks_for_more_and_the_node_stays_ready() {
        let clock = TestClock::new();
        let health = health(&clock);
        for family in [Family::V4, Family::V6] {
            health.updated(family);
        }
        let to = served(&health).await;
        let line = "[!]other-proxy: nft table ip kube-proxy\n";

        health.set_warning("other-proxy", Some("nft table ip kube-proxy".into()));

        let verbose = get(to, "/readyz?verbose").await;
        assert_eq!(verbose.code, 200);
        assert!(verbose.body.contains(line), "{}", verbose.body);
        assert_eq!(get(to, "/readyz").await.body, "ok");
        let json = get(to, "/readyz?format=json").await.body;
        assert!(json.contains("\"warnings\":{\"other-proxy\":"), "{json}");

        health.set_warning("other-proxy", None);
        assert!(
            !get(to, "/readyz?verbose")
                .await
                .body
                .contains("other-proxy")
        );
    }

    #[tokio::test]
    async fn a_program_that_starts_is_alive_and_not_ready() {
        let clock = TestClock::new();
        let health = health(&clock);
        let to = served(&health).await;

        assert_eq!(get(to, "/livez").await.code, 200);
        assert!(get(to, "/livez").await.body.contains(NEVER));
        let readyz = get(to, "/readyz").await;
        assert_eq!(readyz.code, 503);
        assert!(readyz.body.contains("first-sync"), "{}", readyz.body);
    }

    #[tokio::test]
    async fn other_paths_are_not_found() {
        let clock = TestClock::new();

        let answer = get(served(&health(&clock)).await, "/").await;

        assert_eq!(answer.code, 404);
        assert_eq!(answer.body, "404 page not found\n");
    }
}

//! `/statusz` and `/flagz`, pages for people.
//!
//! They carry what kube-proxy's pages of these names carry, under its title, so
//! that habits and scripts that only look for the page go on working. Like
//! there, nothing may rely on their form.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::Moment;
use super::reply::{NOSNIFF, PLAIN, Server};

/// The release of kube-proxy whose flags, file and pages these are.
const EMULATED: &str = "1.37";
const NOTE: &str = "For people, not for programs: the form may change without notice.";

/// `/statusz`: since when it runs, in which version, and what else is here.
pub(super) async fn statusz(State(server): State<Server>, headers: HeaderMap) -> Response {
    let now = server.health.now();
    page(
        &headers,
        "statusz",
        &status(server.started, now, &server.paths),
    )
}

/// `/flagz`: the flags of the command line, with the values they were given.
pub(super) async fn flagz(State(server): State<Server>, headers: HeaderMap) -> Response {
    let lines: String = server
        .flags
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    page(&headers, "flags", &lines)
}

fn page(headers: &HeaderMap, title: &str, body: &str) -> Response {
    if !takes_text(headers) {
        let answer = "this page is text/plain\n";
        return (StatusCode::NOT_ACCEPTABLE, [NOSNIFF], answer).into_response();
    }
    let text = format!("\nkube-proxy {title}\n{NOTE}\n\n{body}");
    ([(header::CONTENT_TYPE, PLAIN)], [NOSNIFF], text).into_response()
}

/// Whether text is among what the client takes; nothing said is everything.
fn takes_text(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(header::ACCEPT) else {
        return true;
    };
    let accept = accept.to_str().unwrap_or_default();
    let kinds = accept.split(',').map(|item| match item.split_once(';') {
        Some((kind, _)) => kind.trim(),
        None => item.trim(),
    });
    kinds
        .into_iter()
        .any(|kind| matches!(kind, "text/plain" | "text/*" | "*/*" | ""))
}

fn status(started: Moment, now: Moment, paths: &[&str]) -> String {
    let up = now.instant.saturating_duration_since(started.instant);
    let seconds = up.as_secs();
    format!(
        "Started: {}\n\
         Up: {} hr {:02} min {:02} sec\n\
         Binary version: {}\n\
         Emulation version: {EMULATED}\n\
         Paths: {}\n",
        unix_date(started.wall),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        crate::config::version(false),
        paths.join(" "),
    )
}

/// As `date` prints it.
fn unix_date(at: Timestamp) -> String {
    at.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_sent_to_whoever_takes_it() {
        let with = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            takes_text(&headers)
        };

        assert!(takes_text(&HeaderMap::new()));
        for accept in ["*/*", "text/plain;q=0.5", "application/json, text/*"] {
            assert!(with(accept), "{accept}");
        }
        assert!(!with("application/json"));
    }
}

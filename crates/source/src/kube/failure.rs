//! What can go wrong between us and the API server, and what each means.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use thiserror::Error;

use crate::backoff::LONGEST;

/// Why a list, a watch or a write ended before its time.
#[derive(Debug, Error)]
pub enum Failure {
    /// The server has forgotten the resource version or page we came with.
    #[error("resource version expired (410): {0}")]
    Gone(String),
    /// The server does not stream lists.
    #[error("streaming lists are not supported: {0}")]
    NoStreaming(String),
    /// The server answered, and said no.
    #[error("{message} ({code}){}", remedy(*.code))]
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's words.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for so long that the connection must be dead.
    #[error("silent for {:.1} s: taken for dead", .0.as_secs_f64())]
    Silent(Duration),
    /// A list older than what we know already.
    #[error("list at resource version {listed} is older than {known}, which was seen before")]
    Stale {
        /// The list's version.
        listed: String,
        /// The newest version seen.
        known: String,
    },
    /// The server's history is shorter than what it told us before.
    #[error(
        "the API server went back from resource version {known} to {now}, as after a restore from a \
         backup: everything is listed anew"
    )]
    Back {
        /// The newest version seen.
        known: String,
        /// The newest version that it has.
        now: String,
    },
    /// What came makes no sense.
    #[error("not understood: {0}")]
    Nonsense(String),
    /// Nobody listens to us any more.
    #[error("the sync loop has ended")]
    Unheard,
}

/// The part of a `Status` object that matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    code: u16,
    message: String,
    /// Read without a type: a number that is none must not cost the message.
    details: serde_json::Value,
}

impl Failure {
    /// From an answer that is no success.
    pub fn from_answer(code: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let retry_after = headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match serde_json::from_slice::<Status>(body) {
            Ok(status) => Self::from_status(code, status, retry_after),
            Err(_) => {
                let message = String::from_utf8_lossy(body)
                    .trim()
                    .chars()
                    .take(200)
                    .collect();
                Self::of(code, message, retry_after)
            }
        }
    }

    /// From the object of an `ERROR` event.
    pub(super) fn from_event(object: serde_json::Value) -> Self {
        match serde_json::from_value::<Status>(object) {
            Ok(status) => Self::from_status(status.code, status, None),
            Err(error) => Self::Nonsense(format!("error event: {error}")),
        }
    }

    fn from_status(code: u16, status: Status, retry_after: Option<u64>) -> Self {
        let said = status.details["retryAfterSeconds"]
            .as_u64()
            .filter(|seconds| *seconds > 0);
        Self::of(code, status.message, retry_after.or(said))
    }

    fn of(code: u16, message: String, retry_after: Option<u64>) -> Self {
        match code {
            410 => Self::Gone(message),
            _ => Self::Refused {
                code,
                message,
                retry_after: retry_after.map(|seconds| Duration::from_secs(seconds).min(LONGEST)),
            },
        }
    }

    /// The status, when the server said no.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Gone(_) => Some(410),
            _ => None,
        }
    }

    /// Whether it is the server's trouble rather than ours, so that any other
    /// answer of it is a reason to ask again.
    pub(super) fn heals_with_the_server(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Silent(_) => true,
            Self::Refused {
                code, retry_after, ..
            } => *code >= 500 && retry_after.is_none(),
            _ => false,
        }
    }

    /// Whether there was no answer at all.
    pub(super) fn unreachable(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Silent(_))
    }

    /// When the server wants to be asked again; a minute at most.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<::kube::Error> for Failure {
    fn from(error: ::kube::Error) -> Self {
        Self::Broken(chain(&error))
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn remedy(code: u16) -> &'static str {
    match code {
        401 => {
            ": the token or certificate is not accepted; check the kubeconfig or the service account"
        }
        403 => ": grant it, for example by binding the ClusterRole system:node-proxier",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_carries_message_and_remedy() {
        let body =
            br#"{"kind":"Status","code":403,"message":"services is forbidden: cannot list"}"#;

        let failure = Failure::from_answer(403, &HeaderMap::new(), body);

        assert_eq!(
            failure.to_string(),
            "services is forbidden: cannot list (403): grant it, for example by binding the ClusterRole \
             system:node-proxier"
        );
    }

    #[test]
    fn retry_after_comes_from_header_or_details() {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::RETRY_AFTER,
            http::HeaderValue::from_static("7"),
        );
        let body = br#"{"code":429,"message":"busy","details":{"retryAfterSeconds":3}}"#;

        let header = Failure::from_answer(429, &headers, body);
        let details = Failure::from_answer(429, &HeaderMap::new(), body);

        assert_eq!(header.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(details.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn retry_after_is_a_minute_at_most_and_nonsense_is_none() {
        for (said, meant) in [
            ("18446744073709551615", Some(60)),
            ("61", Some(60)),
            (" 5 ", Some(5)),
            ("-1", None),
            ("1e3", None),
            ("99999999999999999999999", None),
            ("Fri, 27 Nov 2026 09:00:00 GMT", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            let value = http::HeaderValue::from_static(said);
            headers.insert(http::header::RETRY_AFTER, value);

            let failure = Failure::from_answer(429, &headers, b"busy");

            let seconds = failure.retry_after().map(|pause| pause.as_secs());
            assert_eq!(seconds, meant, "{said}");
        }
        for (said, meant) in [
            ("18446744073709551615", Some(60)),
            ("-3", None),
            ("1e30", None),
            ("\"7\"", None),
            ("null", None),
        ] {
            let body = format!(
                r#"{{"code":429,"message":"busy","details":{{"retryAfterSeconds":{said}}}}}"#
            );

            let failure = Failure::from_answer(429, &HeaderMap::new(), body.as_bytes());

            let seconds = failure.retry_after().map(|pause| pause.as_secs());
            assert_eq!(seconds, meant, "{said}");
            assert_eq!(failure.to_string(), "busy (429)", "{said}");
        }
    }

    #[test]
    fn answer_that_is_no_status_is_quoted() {
        let failure = Failure::from_answer(502, &HeaderMap::new(), b"<html>Bad Gateway</html>");

        assert_eq!(failure.to_string(), "<html>Bad Gateway</html> (502)");
    }
}

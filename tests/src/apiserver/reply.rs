//! Bodies of responses.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::request::Request;

/// A response's body, whole or streamed.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A JSON body.
pub(super) fn json(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// A `Status` object as the body.
pub(super) fn failure(code: u16, message: &str) -> Response<Body> {
    json(code, &status(code, message))
}

/// Likewise, with what it is about.
pub(super) fn failure_about(code: u16, message: &str, details: Value) -> Response<Body> {
    let mut status = status(code, message);
    status["details"] = details;
    json(code, &status)
}

/// The details of a `Status` about a resource, or an object of it.
pub(super) fn about(request: &Request, name: &str) -> Value {
    let mut details = json!({"kind": request.resource});
    if !request.group.is_empty() {
        details["group"] = json!(request.group);
    }
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    details
}

/// The resource as messages have it: `events.events.k8s.io`.
pub(super) fn qualified(request: &Request) -> String {
    match request.group.as_str() {
        "" => request.resource.clone(),
        group => format!("{}.{group}", request.resource),
    }
}

/// 422 with its cause; `kind` and `name` say of what.
pub(super) fn invalid(
    details: Value,
    what: &str,
    reason: &str,
    field: &str,
    why: &str,
) -> Response<Body> {
    let message = format!("{what} is invalid: {field}: {why}");
    let mut details = details;
    details["causes"] = json!([{"reason": reason, "message": why, "field": field}]);
    failure_about(422, &message, details)
}

/// A path that leads nowhere.
pub(super) fn unknown() -> Response<Body> {
    let message = "the server could not find the requested resource";
    failure_about(404, message, json!({}))
}

/// The headers that every answer has; those of priority and fairness come to
/// whoever was let in, and who was not let do it is told not to guess types.
pub(super) fn dress(response: &mut Response<Body>) {
    let code = response.status().as_u16();
    let mut headers = vec![
        ("audit-id", "00000000-0000-4000-8000-000000000000"),
        ("cache-control", "no-cache, private"),
    ];
    if code != 401 {
        let uid = "00000000-0000-4000-8000-000000000001";
        headers.push(("x-kubernetes-pf-flowschema-uid", uid));
        headers.push(("x-kubernetes-pf-prioritylevel-uid", uid));
    }
    if code == 403 {
        headers.push(("x-content-type-options", "nosniff"));
    }
    for (name, value) in headers {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
}

/// A `Status` object.
pub(super) fn status(code: u16, message: &str) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    });
    if let Some(reason) = reason(code) {
        status["reason"] = json!(reason);
    }
    status
}

/// What a code means in one word. A 500 that comes of a bad parameter has none.
fn reason(code: u16) -> Option<&'static str> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "AlreadyExists",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => return None,
    };
    Some(reason)
}

/// The message for a request with a fault's status.
pub(super) fn message(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        410 => "The resourceVersion for the provided list is too old.",
        429 => "the server has received too many requests and has asked us to try again later",
        500 => "an error on the server has prevented the request from succeeding",
        503 => "the server is currently unable to handle the request",
        _ => "a fault on command",
    }
}

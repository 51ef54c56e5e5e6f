//! What answers to HTTP requests have in common.

use std::sync::Arc;

use super::{Health, Moment};

/// `X-Content-Type-Options`.
pub(super) const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");
/// Type of a page that is only text.
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) health: Health,
    pub(super) started: Moment,
    pub(super) flags: Arc<[(&'static str, String)]>,
    pub(super) paths: Arc<[&'static str]>,
}

//! Logs on standard error, for people or for machines.

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::streams::{Form, Log};

/// What libraries may say. That notices of the kernel were lost, which
/// `netlink_proto` warns of, is ours to say and to mend.
const LIBRARIES: &str = "warn,netlink_proto=error";

/// Starts logging at a level; `RUST_LOG` overrides it. Libraries stay at WARN.
pub fn start_logging(format: LogFormat, level: Level) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{LIBRARIES},kube_ipvs={level}")));
    // No colours: what looks like one comes out of an object, and is escaped.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .log_internal_errors(false);
    // A second start, as in tests, keeps the first.
    let _ = match format {
        LogFormat::Human => builder.with_writer(Log(Form::Text)).try_init(),
        LogFormat::Json => builder.json().with_writer(Log(Form::Json)).try_init(),
    };
}

//! kube-proxy's verbosity in levels of `tracing`.

use tracing::Level;

/// The level that `--v` asks for: 0 to 3 INFO, 4 and 5 DEBUG (the plan of each
/// sync), 6 and more TRACE (bytes).
pub fn level(verbosity: u32) -> Level {
    match verbosity {
        0..=3 => Level::INFO,
        4 | 5 => Level::DEBUG,
        _ => Level::TRACE,
    }
}

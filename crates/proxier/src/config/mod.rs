//! Settings: kube-proxy's flags and file, and ours.
//!
//! `flags` and `decode` read, `merge` gives precedence, `validate` checks
//! and types; `table` says of every setting what becomes of it, and
//! `docs/flags.md` is made from it.

#[cfg(test)]
mod absurd;
mod boolean;
mod conntrack;
mod decode;
mod docs;
mod door;
mod duration;
pub mod file;
mod flags;
mod help;
pub mod logging;
mod merge;
mod problem;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod validate;
mod version;

use std::path::Path;

pub use conntrack::{Conntrack, UDP_STREAM};
pub use docs::markdown;
pub use duration::GoDuration;
pub use file::KubeProxyConfiguration;
pub use flags::{LogFormat, NodePortVirtualServers, RunArgs, VipBinding, normalise};
pub use help::{arranged, arranged_to_look};
pub use problem::{Origin, Problem, Problems};
pub use settings::{Action, Client, DetectLocal, IpvsTimeouts, Settings, Source};
pub use table::{Class, Kind, Setting};
pub use version::user_agent;
pub use version::{Build, version};

use kube_ipvs_source::input::file as input;
use problem::Collector;

/// Reads the file of `--config`, if given, and makes settings of everything.
///
/// # Errors
/// All that is wrong: a file that cannot be read, wrong types, values out of
/// range, contradictions.
pub fn load(args: &RunArgs) -> Result<Settings, Problems> {
    let Some(path) = args.config.as_deref().filter(|x| !x.as_os_str().is_empty()) else {
        return settings(args, None);
    };
    let text = input::read(path, input::CONFIGURATION).map_err(|error| {
        let mut collector = Collector::new(Origin::File(path.to_owned()));
        collector.whole(format!("cannot be read: {error}"));
        Problems(collector.problems)
    })?;
    settings(args, Some((path, &text)))
}

/// Settings of flags and a file's path and text. Reads nothing.
///
/// # Errors
/// All that is wrong.
pub fn settings(args: &RunArgs, file: Option<(&Path, &str)>) -> Result<Settings, Problems> {
    let origin = file.map_or(Origin::Flags, |x| Origin::File(x.0.to_owned()));
    let mut collector = Collector::new(origin);
    let Some(merged) = merge::merge(args, file, &mut collector) else {
        return Err(Problems(collector.problems));
    };
    let settings = validate::settings(merged.configuration, merged.warnings, args, &mut collector);
    collector.finish(settings)
}

/// Every setting with what becomes of it.
pub fn classify_all() -> &'static [Setting] {
    table::SETTINGS
}

/// A configuration as YAML, for `--write-config-to`.
pub fn yaml(configuration: &KubeProxyConfiguration) -> String {
    serde_saphyr::to_string(configuration)
        .expect("strings, numbers and maps can be written as YAML")
}

//! A configuration file that changes ends the program, as kube-proxy does: it
//! is started anew with the new one.

use std::path::{Path, PathBuf};

use crate::source::manifests;

/// Ends when the file's content is not what it was, with the reason.
///
/// # Errors
/// When the file cannot be watched.
pub(super) fn replaced(path: &Path) -> anyhow::Result<impl Future<Output = String> + use<>> {
    let mut changes = manifests::watch(path)?;
    let path: PathBuf = path.to_owned();
    let before = std::fs::read(&path).ok();
    Ok(async move {
        while changes.settled().await {
            if std::fs::read(&path).ok() != before {
                return format!("configuration file {} changed", path.display());
            }
        }
        format!(
            "configuration file {} cannot be watched any more",
            path.display()
        )
    })
}

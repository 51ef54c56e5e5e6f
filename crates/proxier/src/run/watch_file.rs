//! A configuration file that changes ends the program, as kube-proxy does: it
//! is started anew with the new one.

use std::path::{Path, PathBuf};

use kube_ipvs_source::input::file;
use kube_ipvs_source::manifests::Watched;

/// Ends when the file's content is not what it was, with the reason. One that
/// cannot be read is no new one: the program serves on and looks again.
pub(super) fn replaced(path: &Path) -> impl Future<Output = String> + use<> {
    let mut watched = Watched::new(path);
    let path: PathBuf = path.to_owned();
    let mut before = file::read(&path, file::CONFIGURATION).ok();
    async move {
        let mut failure = None;
        loop {
            watched.look_again(failure.is_some()).await;
            match file::read(&path, file::CONFIGURATION) {
                Ok(text) if before.as_ref().is_some_and(|before| *before != text) => {
                    return format!("configuration file {} changed", path.display());
                }
                Ok(text) => {
                    before = Some(text);
                    failure = None;
                }
                Err(error) => {
                    let why = Some(error.to_string());
                    if failure != why {
                        let path = path.display();
                        tracing::warn!("configuration file {path} cannot be read: {error}");
                        failure = why;
                    }
                }
            }
        }
    }
}

//! README and docs, for the tests that hold them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README and docs, by name.
pub(crate) fn documents() -> BTreeMap<String, String> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    let mut paths: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|x| x == "md"));
    paths.push(root().join("README.md"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a document");
        let name = path.file_name().expect("a name").to_string_lossy();
        (name.into_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

//! An OCI image layout in a tar file: what `podman load`, `skopeo copy` and
//! registries' tools take.
//!
//! Equal input gives equal bytes. Names are sorted, everything belongs to root,
//! and all times are the one of the commit.

use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::containerfile::Recipe;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Where and when the image is from.
pub(crate) struct Origin<'a> {
    /// The reference that it is loaded as.
    pub(crate) name: &'a str,
    /// `amd64` or `arm64`.
    pub(crate) architecture: &'a str,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// An image.
pub(crate) struct Image {
    /// The tar file.
    pub(crate) archive: Vec<u8>,
    /// Of the manifest, `sha256:...`: what registries call it by.
    pub(crate) digest: String,
}

/// A blob of the layout, and what others call it by.
struct Blob {
    kind: &'static str,
    content: Vec<u8>,
}

impl Image {
    /// Puts files (absolute path, content) into an image as the recipe says.
    ///
    /// # Errors
    /// A path that no tar file takes.
    pub(crate) fn of(
        recipe: &Recipe,
        files: &[(String, Vec<u8>)],
        origin: &Origin,
    ) -> Result<Self> {
        let plain = layer(files, origin.created)?;
        let layer = Blob {
            kind: LAYER,
            content: compressed(&plain)?,
        };
        let config = config(recipe, origin, &digest(&plain));
        let manifest = Blob::of(
            MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": config.descriptor(), "layers": [layer.descriptor()],
                "annotations": recipe.labels,
            }),
        );
        let mut named = manifest.descriptor();
        named["annotations"] = json!({"org.opencontainers.image.ref.name": origin.name});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
        let digest = manifest.digest();
        let archive = archive(&index, [layer, config, manifest], origin.created)?;
        Ok(Self { archive, digest })
    }
}

impl Blob {
    fn of(kind: &'static str, content: &Value) -> Self {
        let content = content.to_string().into_bytes();
        Self { kind, content }
    }

    fn digest(&self) -> String {
        digest(&self.content)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest(), "size": self.content.len()})
    }
}

fn config(recipe: &Recipe, origin: &Origin, layer: &str) -> Blob {
    let created = timestamp(origin.created);
    let variables = recipe.environment.iter();
    let environment: Vec<_> = variables
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Blob::of(
        CONFIG,
        &json!({
            "created": created, "os": "linux", "architecture": origin.architecture,
            "config": {
                "Env": environment, "Entrypoint": recipe.entrypoint, "Cmd": recipe.command,
                "Labels": recipe.labels, "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created": created, "created_by": "deploy/Containerfile"}],
        }),
    )
}

/// The files with the directories above them.
fn layer(files: &[(String, Vec<u8>)], time: u64) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    for (path, content) in files {
        let path = path.trim_start_matches('/');
        let above = Path::new(path).ancestors().skip(1).collect::<Vec<_>>();
        for directory in above.into_iter().rev().filter(|at| *at != Path::new("")) {
            if made.insert(directory.to_owned()) {
                let name = format!("{}/", directory.display());
                append(&mut tar, EntryType::Directory, 0o755, &name, &[], time)?;
            }
        }
        append(&mut tar, EntryType::Regular, 0o755, path, content, time)?;
    }
    tar.into_inner().context("finish the layer")
}

fn archive(index: &Value, blobs: [Blob; 3], time: u64) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut files = vec![
        ("index.json".to_owned(), index.to_string().into_bytes()),
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
    ];
    for blob in blobs {
        files.push((
            format!("blobs/{}", blob.digest().replace(':', "/")),
            blob.content,
        ));
    }
    files.sort();
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, EntryType::Directory, 0o755, directory, &[], time)?;
    }
    for (name, content) in files {
        append(&mut tar, EntryType::Regular, 0o644, &name, &content, time)?;
    }
    tar.into_inner().context("finish the archive")
}

/// Adds an entry that belongs to root, with its mode bits and its time in seconds
/// since 1970.
pub(crate) fn append(
    tar: &mut Builder<Vec<u8>>,
    kind: EntryType,
    mode: u32,
    name: &str,
    content: &[u8],
    time: u64,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content)
        .with_context(|| format!("add {name}"))
}

/// gzip without name and time.
pub(crate) fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut gzip, content)?;
    gzip.finish().context("compress")
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest(content: &[u8]) -> String {
    let sum = Sha256::digest(content);
    let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// As RFC 3339 writes it.
fn timestamp(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tar::Archive;

    use super::*;

    fn image(content: &[u8]) -> Image {
        let recipe = Recipe {
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            environment: BTreeMap::from([("c".to_owned(), "d".to_owned())]),
            entrypoint: vec!["/x/y".to_owned()],
            command: vec!["run".to_owned()],
            ..Recipe::default()
        };
        let origin = Origin {
            name: "example.test/x:1",
            architecture: "amd64",
            created: 1_700_000_000,
        };
        let files = [("/x/y".to_owned(), content.to_vec())];
        Image::of(&recipe, &files, &origin).expect("an image")
    }

    /// Contents by name.
    fn unpacked(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().expect("a tar file").map(|entry| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").display().to_string();
            assert_eq!(entry.header().mtime().expect("a time"), 1_700_000_000);
            assert_eq!(entry.header().uid().expect("a user"), 0);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a content");
            (name, content)
        });
        entries.collect()
    }

    #[test]
    fn the_same_input_makes_the_same_image_and_another_one_does_not() {
        let (one, two, other) = (image(b"program"), image(b"program"), image(b"other"));

        assert!(one.archive == two.archive);
        assert_eq!(one.digest, two.digest);
        assert_ne!(one.digest, other.digest);
    }

    #[test]
    fn every_blob_is_what_its_name_says_and_leads_to_the_file() {
        let image = image(b"program");
        let files = unpacked(&image.archive);

        let blob = |descriptor: &Value| {
            let sum = descriptor["digest"].as_str().expect("a digest");
            let content = &files[&format!("blobs/{}", sum.replace(':', "/"))];
            assert_eq!(digest(content), sum);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let json = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
        let index = json(&files["index.json"]);
        assert_eq!(index["manifests"][0]["digest"], *image.digest);
        let manifest = json(&blob(&index["manifests"][0]));
        assert_eq!(manifest["annotations"], json!({"a": "b"}));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/x/y"]));
        assert_eq!(config["config"]["Env"], json!(["c=d"]));
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        let mut layer = Vec::new();
        let packed = blob(&manifest["layers"][0]);
        let read = GzDecoder::new(&packed[..]).read_to_end(&mut layer);
        read.expect("a compressed layer");
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        let inside = unpacked(&layer);
        assert_eq!(inside.keys().collect::<Vec<_>>(), ["x/", "x/y"]);
        assert_eq!(inside["x/y"], b"program");
    }
}

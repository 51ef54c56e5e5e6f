//! `cargo xtask image`: the container image, as `deploy/Containerfile` says.
//!
//! Written here rather than by an engine: an image of one file needs neither
//! root nor network, and comes out with the same digest on every machine.

mod containerfile;
mod layout;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::console::Outcome;
use crate::dist;
use crate::paths::{Paths, make_directory};
use crate::tools;
use containerfile::Recipe;
use layout::Origin;
pub(crate) use layout::{Image, append, compressed, digest};

/// What the manifests of `deploy/` call it, without the tag.
pub(crate) const NAME: &str = "ghcr.io/kube-ipvs/kube-ipvs";
/// Of the workspace, and so of the program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run() -> Result<Outcome> {
    let paths = Paths::find()?;
    let binary = dist::binary(&paths)?;
    let image = build(&paths, &binary)?;
    let placed = make_directory(paths.target.join("dist"))?.join(archive_name()?);
    fs::write(&placed, &image.archive).with_context(|| format!("write {}", placed.display()))?;
    println!("{}\n{NAME}@{}", placed.display(), image.digest);
    Ok(Outcome::Passed)
}

/// The file in `target/dist` that holds the image.
pub(crate) fn archive_name() -> Result<String> {
    Ok(format!("kube-ipvs-{VERSION}-{}.oci.tar", architecture()?))
}

/// The image of `binary`, in the state the work tree is in.
pub(crate) fn build(paths: &Paths, binary: &Path) -> Result<Image> {
    let file = paths.root.join("deploy/Containerfile");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let arguments = [
        ("VERSION", VERSION.to_owned()),
        ("REVISION", revision(paths)),
    ];
    let recipe = Recipe::read(&text, &arguments.into())
        .with_context(|| format!("read {}", file.display()))?;
    let origin = Origin {
        name: &format!("{NAME}:{VERSION}"),
        architecture: architecture()?,
        created: time(paths)?,
    };
    let files = recipe.copies.iter().map(|(from, to)| {
        // The one file that is built; what else it names would lie beside it.
        let path = if from == "kube-ipvs" {
            binary.to_owned()
        } else {
            binary.with_file_name(from)
        };
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        must_stand_alone(&path)?;
        Ok((to.clone(), content))
    });
    Image::of(&recipe, &files.collect::<Result<Vec<_>>>()?, &origin)
}

/// A program that loads libraries would not start where there are none, and the
/// kernel then says of the program itself that there is no such file.
fn must_stand_alone(program: &Path) -> Result<()> {
    let libraries = tools::libraries(program);
    ensure!(
        libraries.is_empty(),
        "put {} into an image from scratch: it needs {libraries:?}, link it statically",
        program.display()
    );
    Ok(())
}

/// The commit, and whether more than that is in the work tree.
fn revision(paths: &Paths) -> String {
    let git =
        |words: &[&str]| tools::text(Command::new("git").current_dir(&paths.root).args(words));
    let Ok(commit) = git(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain"]).is_ok_and(|files| !files.is_empty());
    format!("{}{}", commit.trim(), if changed { "-dirty" } else { "" })
}

/// Seconds since 1970 that everything made gets for its time: of
/// `SOURCE_DATE_EPOCH`, else of the commit, else zero.
pub(crate) fn time(paths: &Paths) -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={given}: not seconds since 1970"));
    }
    let commit = tools::text(Command::new("git").current_dir(&paths.root).args([
        "log",
        "-1",
        "--format=%ct",
    ]));
    Ok(commit
        .ok()
        .and_then(|time| time.trim().parse().ok())
        .unwrap_or(0))
}

/// Of this machine, as images name it.
pub(crate) fn architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no image is made for {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_put_into_no_image() {
        let program = std::env::current_exe().expect("this program");

        let refused = must_stand_alone(&program).expect_err("it needs the C library");

        assert!(refused.to_string().contains("libc.so"), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_program_may_be_in_an_image() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");

        must_stand_alone(&file).expect("it needs nothing");
    }
}

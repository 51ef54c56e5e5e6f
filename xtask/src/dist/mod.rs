//! `cargo xtask dist`: all files of a release, in `target/dist/release`.

mod components;
mod licences;
mod pack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::artifacts::{self, Target};
use crate::console::Outcome;
use crate::image::{self, VERSION};
use crate::kube_tools::KubeTools;
use crate::paths::{Paths, cargo, make_directory};
use crate::tools;

#[derive(Args)]
pub(crate) struct Arguments {
    /// To try the command: the program that the tests use instead of a release
    /// build, and no list of components (whose tool takes minutes to install).
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// With `--quick`.
    pub(crate) fn quick() -> Self {
        Self { quick: true }
    }
}

/// Shells whose completions are packed, with the name each one looks for.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "kube-ipvs.bash"),
    ("fish", "kube-ipvs.fish"),
    ("zsh", "_kube-ipvs"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let paths = Paths::find()?;
    let program = if arguments.quick {
        quick_binary(&paths)?
    } else {
        binary(&paths)?
    };
    let release = Release::new(&paths, &program)?;
    release.put(
        &format!("linux-{}", image::architecture()?),
        &fs::read(&program)?,
    )?;
    release.image()?;
    release.completions()?;
    release.man_pages()?;
    release.manifests()?;
    release.chart()?;
    release.put("licences.txt", licences::list(&paths)?.as_bytes())?;
    if !arguments.quick {
        release.put("components.cdx.json", components::list(&paths)?.as_bytes())?;
    }
    let sums = pack::sums(&release.directory)?;
    fs::write(release.directory.join("SHA256SUMS"), &sums).context("write SHA256SUMS")?;
    println!("{}\n{sums}", release.directory.display());
    Ok(Outcome::Passed)
}

/// The commit that is built, for `--version` and the API server's audit.
fn commit(paths: &Paths) -> String {
    let git = Command::new("git")
        .current_dir(&paths.root)
        .args(["rev-parse", "--short=7", "HEAD"])
        .output();
    let said = git.ok().filter(|output| output.status.success());
    let named = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    named.unwrap_or_else(|| "unknown".to_owned())
}

/// The static release binary, in `target/dist`.
pub(crate) fn binary(paths: &Paths) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    tools::run(
        cargo()
            .current_dir(&paths.root)
            .args([
                "build",
                "--profile",
                "dist",
                "--locked",
                "-p",
                "kube-ipvs",
                "--target",
                &triple,
            ])
            .arg("--target-dir")
            .arg(paths.vm_build())
            // A profile that says something of a package loses its `strip`.
            .env(
                "RUSTFLAGS",
                "-C target-feature=+crt-static -C strip=symbols",
            )
            .env("KUBE_IPVS_COMMIT", commit(paths)),
    )?;
    let built = paths.vm_build().join(triple).join("dist/kube-ipvs");
    let bytes = fs::metadata(&built).context("size of the program")?.len();
    ensure!(
        bytes <= LARGEST,
        "the program has {bytes} bytes, more than {LARGEST}: what has come to it?"
    );
    place(paths, &built)
}

/// Bytes of the static program at most; it has 14.0 million.
const LARGEST: u64 = 15 << 20;

fn quick_binary(paths: &Paths) -> Result<PathBuf> {
    // With a test, so that nothing is compiled that the tests have not.
    let programs = artifacts::build(paths, &[Target::Test("kernel")])?;
    let program = programs.iter().find(|program| program.name == "kube-ipvs");
    place(paths, &program.context("cargo built no kube-ipvs")?.path)
}

/// Where `deploy/Containerfile` looks for it.
fn place(paths: &Paths, built: &Path) -> Result<PathBuf> {
    let placed = make_directory(paths.target.join("dist"))?.join("kube-ipvs");
    fs::copy(built, &placed).with_context(|| format!("copy to {}", placed.display()))?;
    Ok(placed)
}

/// The directory of a release.
struct Release<'a> {
    paths: &'a Paths,
    program: &'a Path,
    directory: PathBuf,
    /// Seconds since 1970: the time of everything packed.
    time: u64,
}

impl<'a> Release<'a> {
    /// An empty one.
    fn new(paths: &'a Paths, program: &'a Path) -> Result<Self> {
        let directory = paths.target.join("dist/release");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        Ok(Self {
            paths,
            program,
            directory: make_directory(directory)?,
            time: image::time(paths)?,
        })
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        let file = format!("kube-ipvs-{VERSION}-{name}");
        fs::write(self.directory.join(&file), content).with_context(|| format!("write {file}"))
    }

    fn image(&self) -> Result<()> {
        let image = image::build(self.paths, self.program)?;
        eprintln!("xtask: image {}", image.digest);
        let name = format!("linux-{}.oci.tar", image::architecture()?);
        self.put(&name, &image.archive)
    }

    fn completions(&self) -> Result<()> {
        let mut files = Vec::new();
        for (shell, name) in SHELLS {
            let mut command = Command::new(self.program);
            let script = tools::output(command.args(["completion", shell]))?;
            files.push((name.to_owned(), script));
        }
        self.put("completions.tar.gz", &pack::tar_gz(files, self.time)?)
    }

    /// The program itself need not know how to write them.
    fn man_pages(&self) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let mut command = cargo();
        command
            .current_dir(&self.paths.root)
            .args(["run", "--quiet", "--locked", "--example", "man", "--"])
            .arg(directory.path());
        tools::run(&mut command)?;
        let files = pack::tree(directory.path())?;
        ensure!(!files.is_empty(), "no man pages were written");
        self.put("man.tar.gz", &pack::tar_gz(files, self.time)?)
    }

    /// What kustomize takes, and the alerts.
    fn manifests(&self) -> Result<()> {
        let mut files = pack::tree(&self.paths.root.join("deploy"))?;
        files.retain(|(name, _)| name.contains('/') && !name.starts_with("chart/"));
        self.put("manifests.tar.gz", &pack::tar_gz(files, self.time)?)
    }

    /// The Helm chart; `helm` itself looks at it.
    fn chart(&self) -> Result<()> {
        let chart = self.paths.root.join("deploy/chart");
        tools::run(
            Command::new(KubeTools::get(self.paths)?.helm)
                .args(["package", "--version", VERSION, "--app-version", VERSION])
                .arg("--destination")
                .arg(&self.directory)
                .arg(chart)
                .stdout(std::io::stderr()),
        )
    }
}

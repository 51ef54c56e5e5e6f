//! SIGTERM, in the middle of what takes long.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube_ipvs_tests::{Protocol, wait_until};

use super::{QUICK, WEB};
use crate::traffic::site::{PATIENCE, Site};
use crate::traffic::web::Web;

/// Two seconds are promised; an emulated processor is late by itself.
const SOON: Duration = Duration::from_secs(4);

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").expect("a PATH")
}

fn find(program: &str) -> PathBuf {
    let folders = path();
    let mut all = std::env::split_paths(&folders).map(|folder| folder.join(program));
    all.find(|path| path.exists()).expect("it is on the PATH")
}

/// An `nft` in this folder that does its work, but hangs while the file `hang`
/// is there, and then tells its process id in `hanging`.
fn nft_that_may_hang(folder: &Path) {
    let text = format!(
        "#!/bin/sh\nif [ -e {0}/hang ]; then echo $$ >{0}/now; mv {0}/now {0}/hanging; exec sleep 600; fi\nexec {1} \"$@\"\n",
        folder.display(),
        find("nft").display()
    );
    let program = folder.join("nft");
    fs::write(&program, text).expect("write it");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("let it run");
}

/// Whether a process is there and not just waiting to be buried.
fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim()));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[test]
fn a_change_that_takes_long_delays_no_end() {
    let folder = tempfile::tempdir().expect("a folder");
    nft_that_may_hang(folder.path());
    let folders = path();
    let first = std::iter::once(folder.path().to_owned());
    let path = std::env::join_paths(first.chain(std::env::split_paths(&folders)));
    let mut site = Site::new();
    let _pod = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]));
    site.start_in(&QUICK, |command| {
        command.env("PATH", path.expect("a PATH"));
    });
    site.wait_for_vip("10.96.0.10");

    fs::write(folder.path().join("hang"), "").expect("let it hang");
    let other = Web::new("other", &["10.96.0.77"]).port(Protocol::Tcp, 80, 8080);
    site.write(&other.endpoint(site.small.pods[0].v4));
    let hanging = folder.path().join("hanging");
    wait_until("a change of the table", PATIENCE, || hanging.exists());
    let told = Instant::now();
    let status = site.daemon().terminate();
    let took = told.elapsed();

    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "{took:?}");
    let child = fs::read_to_string(hanging).expect("its process id");
    wait_until("the child is gone too", PATIENCE, || !runs(&child));
    assert_eq!(site.outside().call(Protocol::Tcp, WEB).who(), "p1");
}

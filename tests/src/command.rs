//! Programs that tests compare with: `ipvsadm`, `ip`, `nft`.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Runs `program` and gives its standard output. Panics with what it wrote to
/// standard error when it fails.
pub fn run<I, S>(program: &str, arguments: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    output_of(Command::new(program).args(arguments))
}

/// As [`run`], with `input` on its standard input (`ipvsadm -R`, `nft -f -`).
pub fn run_with_input<I, S>(program: &str, arguments: I, input: &str) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        // Not here: a program that writes before it has read all would block us both.
        scope.spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
        text(
            &command,
            child.wait_with_output().expect("wait for a child"),
        )
    })
}

/// Runs a command to its end and gives its standard output; panics with its
/// standard error when it fails.
pub fn output_of(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    text(command, output)
}

fn text(command: &Command, output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stderr}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Panics when this machine cannot run IPVS tests: a test that cannot run
/// fails, it never passes quietly.
pub fn require_ipvs() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        assert!(
            nix::unistd::geteuid().is_root(),
            "needs root: use cargo xtask kernel-test"
        );
        let listing = Path::new("/proc/net/ip_vs");
        // The kernel loads these two under the IPVS lock, and they want the lock
        // of namespaces; a namespace that goes away at that moment holds the
        // second and wants the first, and then no network call of the machine
        // ever returns. So they are there before any namespace is.
        let _ = Command::new("modprobe")
            .args(["-a", "ip_vs_lblc", "ip_vs_lblcr"])
            .output();
        if !listing.exists() {
            // The program asks the kernel, and the kernel loads the module.
            let _ = Command::new("ipvsadm").arg("-Ln").output();
        }
        assert!(
            listing.exists(),
            "this kernel has no IPVS (module ip_vs): use cargo xtask kernel-test"
        );
    });
}

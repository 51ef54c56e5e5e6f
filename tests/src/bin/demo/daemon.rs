//! The real program, started and stopped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Path of the program under demonstration.
pub(crate) fn program() -> String {
    std::env::var("KUBE_IPVS_BIN").unwrap_or_else(|_| "kube-ipvs".to_owned())
}

/// A running `kube-ipvs run`.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(manifests: &Path, scratch: &Path) -> Result<Self> {
        let log = std::fs::File::create(scratch.join("log"))?;
        let child = Command::new(program())
            .args(["run", "--hostname-override", "node-1", "--manifests"])
            .arg(manifests)
            .arg("--state-dir")
            .arg(scratch.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program()))?;
        let mut daemon = Self(child);
        daemon.wait_until_ready(&scratch.join("log"))?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if is_ready() {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!(
                    "kube-ipvs ended with {status}:\n{}",
                    std::fs::read_to_string(log)?
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "kube-ipvs was not ready after 60 s:\n{}",
            std::fs::read_to_string(log)?
        )
    }

    /// Asks it to end, as a kubelet does.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "kube-ipvs ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready() -> bool {
    let Ok(mut stream) = TcpStream::connect("127.0.0.1:10256") else {
        return false;
    };
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    stream.write_all(request).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

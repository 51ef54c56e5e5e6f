//! The side that asks.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube_ipvs_dataplane::record::SOCKET;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Ask, NodeReport, Told, VERSION};

/// A loop that is in the middle of a long round answers after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the daemon of a state directory; none when nobody listens there.
///
/// # Errors
/// Somebody listens and gives no answer that makes sense.
pub(crate) fn ask(directory: &Path, ask: &Ask) -> anyhow::Result<Option<Told>> {
    exchange(directory, ask)
}

/// Asks the daemon about itself; otherwise as [`ask`].
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_node(directory: &Path) -> anyhow::Result<Option<NodeReport>> {
    exchange(directory, &Ask::Node)
}

fn exchange<T: DeserializeOwned>(directory: &Path, ask: &Ask) -> anyhow::Result<Option<T>> {
    let path = directory.join(SOCKET);
    let operation = || format!("ask the kube-ipvs at {}", path.display());
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(told(error)).with_context(operation),
    };
    let mut answer = Vec::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&serde_json::to_vec(ask)?)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut answer)
    };
    exchange().map_err(told).with_context(operation)?;
    anyhow::ensure!(
        !answer.is_empty(),
        "{}: it gave no answer: it is in the middle of a long round, or of another version; \
         ask again, or use the program that runs there",
        operation()
    );
    understood(&answer).with_context(operation).map(Some)
}

/// Only the version first: the rest of another one may look different.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn understood<T: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    let Versioned { version } = serde_json::from_slice(answer)?;
    anyhow::ensure!(
        version == VERSION,
        "it answers in form {version}, and this program reads form {VERSION}: use the program \
         that runs there"
    );
    Ok(serde_json::from_slice(answer)?)
}

/// With what to do about it.
pub(super) fn told(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("{error}; root alone may ask: run this as root")
        }
        // What a read or write time-out comes out as.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => anyhow::anyhow!(
            "no answer within {} s: it is in the middle of a long round, or hangs; ask again, \
             and see its log",
            PATIENCE.as_secs()
        ),
        _ => error.into(),
    }
}

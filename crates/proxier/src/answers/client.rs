//! The side that asks.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{Ask, FILE_NAME, Told};

/// A loop that is in the middle of a long round answers after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the daemon of a state directory; none when nobody listens there.
///
/// # Errors
/// Somebody listens and gives no answer that makes sense.
pub fn ask(directory: &Path, ask: &Ask) -> anyhow::Result<Option<Told>> {
    let path = directory.join(FILE_NAME);
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
        Err(error) => return Err(error).with_context(operation),
    };
    let mut answer = Vec::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&serde_json::to_vec(ask)?)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut answer)
    };
    exchange().with_context(operation)?;
    anyhow::ensure!(
        !answer.is_empty(),
        "{}: no answer: it is busy, or does not know the question",
        operation()
    );
    let told = serde_json::from_slice(&answer).with_context(operation)?;
    Ok(Some(told))
}

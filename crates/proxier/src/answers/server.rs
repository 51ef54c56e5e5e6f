//! The side that is asked: one connection at a time, bounded in size and time.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube_ipvs_dataplane::record::SOCKET;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Ask, NodeReport, Question, Reply};

/// Bytes of a question.
const LONGEST: u64 = 4096;
/// For a client to say its question, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For the loop to come to it: less than a client waits.
const LOOP: Duration = Duration::from_secs(8);
/// The same where an answer without the loop's part is one too: who asks for it
/// wants to know of a loop that hangs.
const LOOP_OF_NODE: Duration = Duration::from_secs(2);
/// After a connection that could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// Questions for the loop.
pub(crate) type Questions = mpsc::Receiver<Question>;

/// Listens in a state directory. The future serves, and never ends; the loop
/// takes the questions, and `about` says what is known of the daemon without it.
/// To be called by who holds the lock of the directory:
/// a socket that is there is left over.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn serve<F: Fn() -> NodeReport>(
    directory: &Path,
    about: F,
) -> anyhow::Result<(impl Future<Output = ()> + use<F>, Questions)> {
    let path = directory.join(SOCKET);
    let operation = || format!("listen for questions at {}", path.display());
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(operation);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(operation)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(operation)?;
    let (ask, questions) = mpsc::channel(1);
    let serving = async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => answer(stream, &ask, &about).await,
                Err(error) => {
                    tracing::debug!(%error, "a question could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    Ok((serving, questions))
}

/// Who asks wrongly, or is too slow, gets no answer.
async fn answer(
    mut stream: UnixStream,
    questions: &mpsc::Sender<Question>,
    about: &impl Fn() -> NodeReport,
) {
    let Ok(Some(ask)) = timeout(PATIENCE, read(&mut stream)).await else {
        return;
    };
    let patience = match ask {
        Ask::Node => LOOP_OF_NODE,
        _ => LOOP,
    };
    let text = match timeout(patience, put(ask.clone(), questions)).await {
        Ok(Some(Reply::Service(told))) => serde_json::to_vec(&told),
        answered if ask == Ask::Node => {
            let of_loop = match answered {
                Ok(Some(Reply::Loop(of_loop))) => Some(*of_loop),
                _ => None,
            };
            serde_json::to_vec(&NodeReport { of_loop, ..about() })
        }
        _ => return,
    };
    let text = text.unwrap_or_default();
    // A client that went away needs nothing more.
    _ = timeout(PATIENCE, stream.write_all(&text)).await;
}

async fn read(stream: &mut UnixStream) -> Option<Ask> {
    let mut text = Vec::new();
    stream.take(LONGEST).read_to_end(&mut text).await.ok()?;
    serde_json::from_slice(&text).ok()
}

async fn put(ask: Ask, questions: &mpsc::Sender<Question>) -> Option<Reply> {
    let (reply, told) = oneshot::channel();
    questions.send(Question { ask, reply }).await.ok()?;
    told.await.ok()
}

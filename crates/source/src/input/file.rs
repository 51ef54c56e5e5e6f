//! Whole text files: regular ones, up to a size.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Most bytes of a configuration file or kubeconfig: a ConfigMap or Secret holds 1 MiB.
pub const CONFIGURATION: u64 = 1 << 20;

/// The text of a file of at most `limit` bytes.
///
/// Links are followed; what they lead to must be a regular file: a FIFO would
/// be waited for, `/dev/zero` has no end, and opening some devices does things.
///
/// # Errors
/// It cannot be opened, is no regular file, is too big, or is not UTF-8.
pub fn read(path: &Path, limit: u64) -> io::Result<String> {
    regular(&std::fs::metadata(path)?)?;
    // Not waiting, in case it has become a FIFO since.
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    if metadata.len() > limit {
        return Err(too_big(limit));
    }
    read_from(file, limit)
}

/// The text of a stream of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, is too long, or is not UTF-8.
pub fn read_from(stream: impl Read, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_big(limit));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("not UTF-8 text: byte {at} is wrong"))
    })
}

fn regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("{what}, not a regular file")))
}

fn too_big(limit: u64) -> io::Error {
    io::Error::other(format!(
        "more than {} MiB, which is the most that is read",
        limit >> 20
    ))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    fn error(path: &Path) -> String {
        read(path, CONFIGURATION)
            .expect_err("nothing to read")
            .to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(error(&fifo), "a FIFO, not a regular file");
        assert_eq!(error(directory.path()), "a directory, not a regular file");
        let zero = directory.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).expect("a link");
        assert_eq!(error(&zero), "a device, not a regular file");
        let socket = directory.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert_eq!(error(&socket), "a socket, not a regular file");
        let round = directory.path().join("round");
        std::os::unix::fs::symlink(&round, &round).expect("a link");
        assert!(
            error(&round).contains("symbolic links"),
            "{}",
            error(&round)
        );
    }

    #[test]
    fn a_link_to_a_regular_file_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&file, "kind: Service").expect("write");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(read(&link, 13).expect("text"), "kind: Service");
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let sparse = directory.path().join("sparse");
        let file = File::create(&sparse).expect("a file");
        file.set_len(1 << 40).expect("a hole");
        assert!(error(&sparse).starts_with("more than 1 MiB"));
        let endless = read_from(io::repeat(b' '), CONFIGURATION);
        assert!(endless.is_err_and(|error| error.to_string().starts_with("more than 1 MiB")));
        assert!(read_from(&b"\xff"[..], 1).is_err());
    }
}

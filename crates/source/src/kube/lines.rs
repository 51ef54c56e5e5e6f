//! A response's body, line by line.

use ::kube::client::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;

use super::failure::Failure;

/// No object is this large: etcd takes 1.5 MB by default.
const LONGEST: usize = 64 << 20;

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line without its end; none when the server has finished.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LONGEST {
                return Err(Failure::Nonsense(format!(
                    "a line of more than {LONGEST} bytes"
                )));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Failure::Broken("connection ended within a line".to_owned())),
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let Some(end) = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static [u8]) -> (Vec<Bytes>, Result<(), Failure>) {
        let mut lines = Lines::new(Body::from(text.to_vec()));
        let mut all = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => all.push(line),
                Ok(None) => return (all, Ok(())),
                Err(failure) => return (all, Err(failure)),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_split_at_their_ends() {
        let (lines, end) = lines(b"one\n\ntwo\n").await;

        assert_eq!(lines, ["one", "", "two"]);
        assert!(end.is_ok());
    }

    #[tokio::test]
    async fn torn_line_is_a_broken_connection() {
        let (lines, end) = lines(b"one\ntw").await;

        assert_eq!(lines, ["one"]);
        assert!(matches!(end, Err(Failure::Broken(_))));
    }
}

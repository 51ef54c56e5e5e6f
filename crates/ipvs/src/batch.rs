//! Many requests in one send, with one acknowledgement.

use crate::request::Addressed;
use crate::{Client, Error, Operation, Request};

impl Client {
    /// Carry out requests in order, many in one send. A refused request does not
    /// keep those after it from being carried out; each comes back with its
    /// index and reason, in order. No refusal is an empty list.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be heard, and it is not known what was done: all
    /// requests up to some place were carried out or refused, those after it
    /// never sent. Look again.
    pub fn apply(&mut self, requests: &[Request]) -> Result<Vec<(usize, Error)>, Error> {
        let family = self.family;
        let addressed = requests.iter().map(|request| Addressed { family, request });
        let failed = self
            .connection
            .batch(addressed)
            .map_err(|error| Error::of(&Operation::Batch, error))?;
        Ok(failed
            .into_iter()
            .map(|(index, error)| (index, Error::of(&requests[index].operation(), error)))
            .collect())
    }
}

//! Questions, and lists of what the kernel has.

use netlink_exchange::{Connection, Content, Writer};
use netlink_packet_core::DecodeError;

use crate::wire::{GENERIC_HEADER, generic_header, read_attributes};
use crate::{Error, Operation};

/// What is asked by one message.
pub(crate) struct Query {
    pub(crate) operation: Operation,
    pub(crate) family: u16,
    pub(crate) command: u8,
    pub(crate) version: u8,
    /// Whether all entries are asked for rather than one.
    pub(crate) dump: bool,
}

impl Query {
    /// Ask; `each` gets command and attributes of every answer.
    pub(crate) fn ask(
        &self,
        connection: &mut Connection,
        body: impl Fn(&mut Writer<'_>),
        mut each: impl FnMut(u8, &[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let question = Question { query: self, body };
        let each = |content: Content<'_>| {
            let attributes = content.after(GENERIC_HEADER)?;
            each(content.payload[0], attributes)
        };
        let asked = if self.dump {
            connection.dump(question, each)
        } else {
            connection.ask(question, each)
        };
        asked.map_err(|error| Error::of(&self.operation, error))
    }
}

/// A query with its attributes.
struct Question<'a, B> {
    query: &'a Query,
    body: B,
}

impl<B: Fn(&mut Writer<'_>)> netlink_exchange::Request for Question<'_, B> {
    fn message_type(&self) -> u16 {
        self.query.family
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&generic_header(self.query.command, self.query.version));
        (self.body)(out);
    }
}

/// The content of the first nest of a kind.
fn nested(attributes: &[u8], kind: u16) -> Result<Option<&[u8]>, DecodeError> {
    let mut nest = None;
    read_attributes(attributes, |attribute| {
        if attribute.kind() == kind && nest.is_none() {
            nest = Some(attribute.value());
        }
        Ok(())
    })?;
    Ok(nest)
}

/// Ask for all of a kind: they come one in a nest.
pub(crate) fn list<T>(
    connection: &mut Connection,
    query: &Query,
    (answer, kind): (u8, u16),
    body: impl Fn(&mut Writer<'_>),
    parse: impl Fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    survey(connection, query, (answer, kind), body, |nest| {
        all.push(parse(nest)?);
        Ok(())
    })?;
    Ok(all)
}

/// The same; `each` gets the content of every nest as it comes.
pub(crate) fn survey(
    connection: &mut Connection,
    query: &Query,
    (answer, kind): (u8, u16),
    body: impl Fn(&mut Writer<'_>),
    mut each: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), Error> {
    query.ask(connection, body, |command, attributes| {
        if command == answer
            && let Some(nest) = nested(attributes, kind)?
        {
            each(nest)?;
        }
        Ok(())
    })
}

/// The list, unless something is in it twice: then it was counted wrong, and
/// something else may be missing.
pub(crate) fn once_each<T, I: Ord>(
    all: Vec<T>,
    id: impl Fn(&T) -> I,
    operation: Operation,
) -> Result<Vec<T>, Error> {
    let mut ids: Vec<_> = all.iter().map(id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Interrupted { operation });
    }
    Ok(all)
}

/// The kernel took the question and said nothing.
pub(crate) fn no_answer(operation: Operation) -> Error {
    Error::Malformed {
        operation,
        reason: "nothing was told".to_owned(),
    }
}

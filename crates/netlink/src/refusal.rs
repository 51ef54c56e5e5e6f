//! Refusals, with what the kernel says beyond the errno.

use std::fmt;

use netlink_packet_core::{DecodeError, NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED};
use nix::errno::Errno;

use crate::attributes;
use crate::outgoing::HEADER;

// enum nlmsgerr_attrs of linux/netlink.h.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NLMSGERR_ATTR_MISS_NEST: u16 = 6;

/// A refusal: what has been asked is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why not.
    pub errno: Errno,
    /// What the kernel adds in words.
    pub message: Option<String>,
    /// The attribute that it objects to.
    pub at: Option<Place>,
    /// The type of an attribute that it misses, in the one at [`Self::at`] if
    /// there is one.
    pub missing: Option<u16>,
}

/// A place in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the message, its header included.
    pub offset: u32,
    /// The type of the attribute there.
    pub attribute: Option<u16>,
}

impl Refusal {
    /// A refusal without further words.
    pub fn new(errno: Errno) -> Self {
        Self {
            errno,
            message: None,
            at: None,
            missing: None,
        }
    }

    /// What the kernel says beyond the errno: its words, and the attribute.
    pub fn details(&self) -> Option<String> {
        let place = self.at.map(|place| place.to_string());
        let missing = self
            .missing
            .map(|kind| format!("attribute {kind} is missing"));
        let parts: Vec<_> = [self.message.clone(), place, missing]
            .into_iter()
            .flatten()
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Errno and extended acknowledgement. Those help, and nothing hangs on
    /// them: what cannot be read is left out.
    fn read(code: i32, extended: Option<&[u8]>) -> Self {
        let mut refusal = Self::new(Errno::from_raw(code.saturating_neg()));
        let _ = attributes::read(extended.unwrap_or_default(), |attribute| {
            let value = attribute.value();
            match attribute.kind() {
                NLMSGERR_ATTR_MSG => refusal.message = Some(attributes::name(value)),
                NLMSGERR_ATTR_OFFS | NLMSGERR_ATTR_MISS_NEST => {
                    let offset = attributes::u32(value, "offset")?;
                    refusal.at = Some(Place {
                        offset,
                        attribute: None,
                    });
                }
                NLMSGERR_ATTR_MISS_TYPE => {
                    let kind = attributes::u32(value, "type")?;
                    refusal.missing = u16::try_from(kind).ok();
                }
                _ => {}
            }
            Ok(())
        });
        refusal
    }

    /// Look up which attribute it is, in the request that was refused.
    pub(crate) fn locate(mut self, request: Option<&[u8]>) -> Self {
        if let Some(place) = &mut self.at {
            place.attribute = request.and_then(|request| kind_at(request, place.offset));
        }
        self
    }
}

/// The type of the attribute at an offset into the message that `bytes` begin
/// with, if all of its header is inside.
fn kind_at(bytes: &[u8], offset: u32) -> Option<u16> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let message = bytes.get(..length)?;
    let start = usize::try_from(offset).ok().filter(|at| *at >= HEADER)?;
    let header = message.get(start..)?.first_chunk::<4>()?;
    Some(u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            Some(kind) => write!(f, "attribute {kind} at byte {}", self.offset),
            None => write!(f, "at byte {}", self.offset),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.errno.desc(), self.errno)?;
        match self.details() {
            Some(details) => write!(f, ": {details}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// `struct nlmsgerr`: a negative errno, the request's header, the request
/// unless capped, attributes if extended. A code of 0 is an acknowledgement.
pub(crate) fn read_error(payload: &[u8], flags: u16) -> Result<Result<(), Refusal>, DecodeError> {
    let code = attributes::u32(payload, "error code")?.cast_signed();
    if code == 0 {
        return Ok(Ok(()));
    }
    let request = payload.get(4..).unwrap_or_default();
    let echoed = if flags & NLM_F_CAPPED == 0 {
        attributes::u32(request, "length of the request")? as usize
    } else {
        HEADER
    };
    let extended = if flags & NLM_F_ACK_TLVS == 0 {
        None
    } else {
        echoed
            .checked_next_multiple_of(4)
            .and_then(|end| request.get(end..))
    };
    Ok(Err(Refusal::read(code, extended)))
}

/// The end of a dump bears a code too, and perhaps the kernel's words.
pub(crate) fn read_done(payload: &[u8]) -> Result<(), Refusal> {
    let code = payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code < 0 {
        Err(Refusal::read(code, payload.get(4..)))
    } else {
        Ok(())
    }
}

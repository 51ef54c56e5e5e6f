//! What can go wrong between us and the kernel.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::Refusal;

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the kernel.
    Send,
    /// From the kernel.
    Receive,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "send to the kernel",
            Self::Receive => "receive from the kernel",
        })
    }
}

/// Why an exchange did not give what was asked. What was asked is for the
/// caller to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel gave no socket, or one that cannot be used.
    #[error("{action}: {source}")]
    Open {
        /// What was done to it.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// Sending or receiving failed; how much was carried out is not known.
    #[error("{direction}: {source}")]
    Io {
        /// Which of the two.
        direction: Direction,
        /// Why it failed.
        source: io::Error,
    },

    /// The kernel refused the request. It has not been carried out.
    #[error(transparent)]
    Refused(Refusal),

    /// A transaction was for a generation that is past. It has not been
    /// carried out.
    #[error("the ruleset is no longer that of generation {generation} (ERESTART)")]
    Outdated {
        /// The generation it was made for.
        generation: u32,
    },

    /// Answers did not fit the receive buffer and some are lost (ENOBUFS): what
    /// was asked may or may not have been done.
    #[error("answers of the kernel were lost (ENOBUFS)")]
    Overrun,

    /// The kernel did not answer. What was asked may or may not have been done.
    #[error("no answer of the kernel within {timeout:?}")]
    TimedOut {
        /// How long it was waited for.
        timeout: Duration,
    },

    /// The table changed while it was listed.
    #[error("the table changed while it was read")]
    Interrupted,

    /// An answer to something that was never asked.
    #[error("answer has sequence number {sequence}, which is none of ours")]
    UnexpectedSequence {
        /// What the answer bears.
        sequence: u32,
    },

    /// An answer is cut off, or makes no sense.
    #[error("malformed answer: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },

    /// A request does not fit a netlink message. Nothing was sent of it.
    #[error("too long for a netlink message")]
    TooLong,
}

impl Error {
    /// The error number behind it, if one is.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { source, .. } | Self::Io { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Self::Refused(refusal) => Some(refusal.errno),
            Self::Outdated { .. } => Some(Errno::ERESTART),
            Self::Overrun => Some(Errno::ENOBUFS),
            Self::TimedOut { .. } => Some(Errno::ETIMEDOUT),
            _ => None,
        }
    }

    /// Whether what is believed about the kernel may be wrong, so that it is to
    /// be read again before anything else is asked.
    pub fn look_again(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.errno, Errno::EAGAIN | Errno::EINTR),
            Self::Open { .. } | Self::TooLong => false,
            _ => true,
        }
    }
}

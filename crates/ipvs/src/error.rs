//! What can go wrong, and what to do about it.

use std::io;
use std::time::Duration;

use netlink_exchange::Direction;
use nix::errno::Errno;

use crate::Operation;

/// Why something did not work.
///
/// The text names operation, object and errno; [`hint`](Self::hint) names the
/// remedy where one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no family `IPVS`, even after it was asked to load it.
    #[error("find IPVS in the kernel: no such netlink family (ENOENT)")]
    NoIpvs,

    /// The kernel refused a request.
    #[error("{operation}: {} ({}){}", reason(operation, *errno), errno_name(*errno), text_after(message.as_deref()))]
    Refused {
        /// What was asked.
        operation: Operation,
        /// Why not.
        errno: Errno,
        /// What the kernel adds in words.
        message: Option<String>,
    },

    /// The socket could not be opened, written or read.
    #[error("{action}: {source}")]
    Socket {
        /// What was done to the socket.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// Replies did not fit the receive buffer and some are lost (ENOBUFS): what
    /// was asked may or may not have been done. Look again.
    #[error("receive replies of IPVS: some were lost (ENOBUFS)")]
    Overrun,

    /// The kernel did not answer in time. What was asked may or may not have
    /// been done.
    #[error("{operation}: no answer within {timeout:?}")]
    TimedOut {
        /// What was asked.
        operation: Operation,
        /// How long it was waited for.
        timeout: Duration,
    },

    /// The table changed while it was listed, by the kernel's word
    /// (`NLM_F_DUMP_INTR`) or because something came twice: look again.
    #[error("{operation}: the table changed while it was read")]
    Interrupted {
        /// What was asked.
        operation: Operation,
    },

    /// An answer to something that was not asked.
    #[error("{operation}: answer has sequence number {sequence}, which is none of ours")]
    UnexpectedSequence {
        /// What was asked.
        operation: Operation,
        /// What the answer bears.
        sequence: u32,
    },

    /// An answer is cut off, or makes no sense.
    #[error("{operation}: malformed answer: {reason}")]
    Malformed {
        /// What was asked.
        operation: Operation,
        /// What is wrong with the answer.
        reason: String,
    },

    /// A request does not fit a netlink message. Nothing was sent.
    #[error("{operation}: too long for a netlink message")]
    TooLong {
        /// What was asked.
        operation: Operation,
    },
}

impl Error {
    /// The error number behind it, if one is.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::NoIpvs => Some(Errno::ENOENT),
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::Overrun => Some(Errno::ENOBUFS),
            Self::TimedOut { .. } => Some(Errno::ETIMEDOUT),
            _ => None,
        }
    }

    /// The name of the error number: `ESRCH`.
    pub fn errno_name(&self) -> Option<String> {
        self.errno().map(errno_name)
    }

    /// What was asked, if it came to asking.
    pub fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Refused { operation, .. }
            | Self::TimedOut { operation, .. }
            | Self::Interrupted { operation }
            | Self::UnexpectedSequence { operation, .. }
            | Self::Malformed { operation, .. }
            | Self::TooLong { operation } => Some(operation),
            Self::NoIpvs | Self::Socket { .. } | Self::Overrun => None,
        }
    }

    /// Whether the kernel refused the request. The socket is fine, and what was
    /// asked has not been done.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoIpvs => {
                Some("load it with `modprobe ip_vs`, or use a kernel with CONFIG_IP_VS".to_owned())
            }
            Self::Refused {
                operation, errno, ..
            } => refusal_hint(operation, *errno),
            Self::Socket { source, .. } => match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EPERM | Errno::EACCES) => Some(NO_CAPABILITY.to_owned()),
                Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => {
                    Some("this kernel has no generic netlink".to_owned())
                }
                _ => None,
            },
            Self::Overrun | Self::Interrupted { .. } => Some("look again".to_owned()),
            _ => None,
        }
    }

    /// What went wrong with an exchange, and what for.
    pub(crate) fn of(operation: &Operation, error: netlink_exchange::Error) -> Self {
        use netlink_exchange::Error as Exchange;
        let operation = operation.clone();
        match error {
            Exchange::Refused(refusal) => Self::Refused {
                operation,
                errno: refusal.errno,
                message: refusal.details(),
            },
            Exchange::Open { action, source } => Self::Socket { action, source },
            Exchange::Io { direction, source } => Self::Socket {
                action: match direction {
                    Direction::Send => "send to IPVS",
                    Direction::Receive => "receive from IPVS",
                },
                source,
            },
            Exchange::Overrun => Self::Overrun,
            Exchange::TimedOut { timeout } => Self::TimedOut { operation, timeout },
            Exchange::Interrupted => Self::Interrupted { operation },
            Exchange::UnexpectedSequence { sequence } => Self::UnexpectedSequence {
                operation,
                sequence,
            },
            Exchange::TooLong => Self::TooLong { operation },
            Exchange::Malformed { reason } => Self::Malformed { operation, reason },
            other => Self::Malformed {
                operation,
                reason: other.to_string(),
            },
        }
    }
}

const NO_CAPABILITY: &str = "CAP_NET_ADMIN is needed: run as root, or grant the capability";

fn refusal_hint(operation: &Operation, errno: Errno) -> Option<String> {
    use Operation as Op;
    Some(match (operation, errno) {
        (_, Errno::EPERM | Errno::EACCES) => NO_CAPABILITY.to_owned(),
        (
            Op::AddService {
                scheduler, pe_name, ..
            }
            | Op::EditService {
                scheduler, pe_name, ..
            },
            Errno::ENOENT,
        ) => {
            let module = format!("load module ip_vs_{scheduler}, or use a kernel that has it");
            match pe_name {
                Some(name) => format!("{module} (and ip_vs_pe_{name})"),
                None => module,
            }
        }
        (Op::AddDestination { .. }, Errno::EINVAL) => {
            "with `lo` down no destination is taken: `ip link set lo up`; a destination must be \
             a unicast address, and one of the other family needs a tunnel"
                .to_owned()
        }
        (Op::StartDaemon { interface, .. }, Errno::ENODEV) => {
            format!("no interface {interface} in this network namespace")
        }
        _ => return None,
    })
}

/// What an error number means here, which often is more than it says.
fn reason(operation: &Operation, errno: Errno) -> &'static str {
    use Operation as Op;
    match (operation, errno) {
        (_, Errno::EPERM) => "not permitted",
        (Op::AddService { .. }, Errno::EEXIST) => "service already exists",
        (Op::AddService { .. } | Op::EditService { .. }, Errno::ENOENT) => {
            "no such scheduler or persistence engine"
        }
        (Op::AddDestination { .. }, Errno::EEXIST) => "destination already exists",
        (Op::EditDestination { .. } | Op::RemoveDestination { .. }, Errno::ENOENT) => {
            "no such destination"
        }
        (Op::StartDaemon { .. }, Errno::EEXIST) => "daemon already runs",
        (Op::StopDaemon { .. }, Errno::ESRCH) => "no such daemon runs",
        (_, Errno::ESRCH) => "no such service",
        (Op::AddDestination { .. } | Op::EditDestination { .. }, Errno::ERANGE) => {
            "weight or threshold out of range"
        }
        _ => errno.desc(),
    }
}

/// `ESRCH`; `errno 4242` for one without a name.
fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

fn text_after(message: Option<&str>) -> String {
    message.map(|text| format!(": {text}")).unwrap_or_default()
}

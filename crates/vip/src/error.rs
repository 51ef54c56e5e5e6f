//! What can go wrong, with the operation, its object, the errno and a remedy.

use std::io;

use netlink_exchange::Errno;

/// An operation that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel gave no rtnetlink socket.
    #[error("open rtnetlink socket: {0}")]
    Open(#[source] io::Error),

    /// Sending or receiving failed; how much was carried out is unknown.
    #[error("{operation}: {source}")]
    Io {
        /// What was being done.
        operation: String,
        /// The system's reason.
        source: io::Error,
    },

    /// The kernel refused a request.
    #[error(
        "{operation}: {} ({errno:?}){}{}",
        .errno.desc(),
        words(.message.as_deref()),
        hint(*.errno)
    )]
    Refused {
        /// What was asked for.
        operation: String,
        /// The kernel's reason.
        errno: Errno,
        /// What the kernel adds in words.
        message: Option<String>,
    },

    /// The kernel had more answers than the socket's buffer holds, so some of
    /// them are lost: look at the kernel again.
    #[error("{operation}: answers of the kernel were lost (ENOBUFS); look again")]
    Overrun {
        /// What was being done.
        operation: String,
    },

    /// A table changed during each try to list it.
    #[error("{operation}: the table changed during each of {tries} tries to list it")]
    Interrupted {
        /// What was being listed.
        operation: String,
        /// How often it was tried.
        tries: u32,
    },

    /// The kernel said something that makes no sense to us.
    #[error("{operation}: unexpected answer of the kernel: {reason}")]
    Malformed {
        /// What was being done.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },

    /// A link of our name exists and is of another kind.
    #[error(
        "link {link} exists and is of kind {kind}, not dummy: \
         rename or remove it, or choose another name"
    )]
    NotDummy {
        /// Its name.
        link: String,
        /// Its kind as `ip -d link` says it, or `unknown`.
        kind: String,
    },

    /// Our link is not there.
    #[error("{operation}: no link {link} (ENODEV); it is made by ensure_link")]
    NoLink {
        /// What was being done.
        operation: String,
        /// The name.
        link: String,
    },

    /// A name that no link can have.
    #[error("link name {0:?}: 1 to 15 bytes without '/', ':' and white space are allowed")]
    BadName(String),
}

impl Error {
    /// The kernel's reason, where there is one to act on.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Open(source) | Self::Io { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Self::Overrun { .. } => Some(Errno::ENOBUFS),
            Self::NoLink { .. } => Some(Errno::ENODEV),
            _ => None,
        }
    }

    pub(crate) fn refused(operation: String, reason: &netlink_exchange::Refusal) -> Self {
        Self::Refused {
            operation,
            errno: reason.errno,
            message: reason.details(),
        }
    }

    /// What went wrong with an exchange, and what for.
    pub(crate) fn of(operation: &str, error: netlink_exchange::Error) -> Self {
        use netlink_exchange::Error as Exchange;
        let operation = operation.to_owned();
        match error {
            Exchange::Open { source, .. } => Self::Open(source),
            Exchange::Refused(reason) => Self::refused(operation, &reason),
            Exchange::Overrun => Self::Overrun { operation },
            Exchange::Interrupted => Self::Interrupted {
                operation,
                tries: 1,
            },
            Exchange::Io { direction, source } => Self::Io {
                operation: format!("{operation}: {direction}"),
                source,
            },
            Exchange::TimedOut { .. } => Self::Io {
                operation,
                source: io::Error::new(io::ErrorKind::TimedOut, error.to_string()),
            },
            Exchange::Malformed { reason } => Self::Malformed { operation, reason },
            other => Self::Malformed {
                operation,
                reason: other.to_string(),
            },
        }
    }
}

fn words(message: Option<&str>) -> String {
    message.map(|text| format!(": {text}")).unwrap_or_default()
}

/// What helps against a refusal.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; CAP_NET_ADMIN is needed",
        Errno::EOPNOTSUPP => "; is the kernel module `dummy` available?",
        Errno::EINVAL => "; is the source hint an address of this host?",
        Errno::ENETDOWN => "; is the link up?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_operation_errno_and_remedy() {
        let error = Error::Refused {
            operation: "bind 10.96.0.10/32 to kube-ipvs0".into(),
            errno: Errno::EPERM,
            message: None,
        };

        assert_eq!(
            error.to_string(),
            "bind 10.96.0.10/32 to kube-ipvs0: Operation not permitted (EPERM); CAP_NET_ADMIN is needed"
        );
        assert_eq!(error.errno(), Some(Errno::EPERM));
    }
}

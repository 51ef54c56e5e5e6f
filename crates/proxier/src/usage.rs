//! A command line that makes no sense.

/// Exit code of a command line that makes no sense: EX_USAGE of sysexits.h,
/// since 1 is an error and 2 means something to some commands.
pub(crate) const EXIT_CODE: u8 = 64;

/// What is wrong with a command line, and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub String);

//! Tests of the whole client over kernels that are replayed or made up.

use crate::*;

mod adversity;
mod fake;
#[cfg(target_endian = "little")] // as the captures are
mod golden;
mod properties;
mod replay;
mod stories;

//! Whether nftables is as it was: the kernel counts the transactions of a
//! network namespace.

/// The generations at which something is known.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// At which our tables were read, or made, last.
    pub(crate) tables: Option<u32>,
    /// At which the chains of others were looked at last.
    pub(crate) chains: Option<u32>,
}

impl Known {
    /// A transaction of ours was the next one after `before`. It changes nothing
    /// but what we know.
    pub(crate) fn ours(&mut self, before: u32) {
        for known in [&mut self.tables, &mut self.chains] {
            if *known == Some(before) {
                *known = Some(next(before));
            }
        }
    }
}

/// The kernel leaves out 0.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_round_without_a_zero() {
        assert_eq!(next(1), 2);
        assert_eq!(next(u32::MAX), 1);
    }

    #[test]
    fn what_was_known_before_is_known_after_and_nothing_else() {
        let mut known = Known {
            tables: Some(7),
            chains: Some(6),
        };
        known.ours(7);
        assert_eq!((known.tables, known.chains), (Some(8), Some(6)));
    }
}

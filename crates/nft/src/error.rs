//! What can go wrong between us and nf_tables.

use netlink_exchange::{Errno, Error as Exchange};

use crate::Invalid;

/// A failure of [`Nft`](crate::Nft): what was tried, what the kernel said, what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// The kernel said no to one of the changes; nothing was changed.
    #[error("{operation}: {source}, at `{at}`{}", hint(source, *is_element))]
    Refused {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: Exchange,
        /// The change that it refused.
        at: String,
        /// It is an element, of a set that was there.
        is_element: bool,
    },
    /// The kernel took no question, or could not be heard. Whether a transaction
    /// took place is unknown then: read the table back.
    #[error("{operation}: {source}{}", hint(source, false))]
    Exchange {
        /// What was tried.
        operation: String,
        /// Why it failed.
        source: Exchange,
    },
    /// Others changed nftables again and again while it was read.
    #[error("{operation}: it changed each time it was read, {tries} times")]
    Unsteady {
        /// What was tried.
        operation: String,
        /// How often.
        tries: u32,
    },
    /// It would not have been valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl NftError {
    pub(crate) fn exchange(operation: impl Into<String>) -> impl Fn(Exchange) -> Self {
        let operation = operation.into();
        move |source| Self::Exchange {
            operation: operation.clone(),
            source,
        }
    }

    /// What the kernel said, if it said something.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } | Self::Exchange { source, .. } => source.errno(),
            Self::Unsteady { .. } | Self::Invalid(_) => None,
        }
    }

    /// The table is not what the change was made for: an element to remove is
    /// not there, or one to add is already there with another value. Observe, or
    /// put the whole table in place.
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                is_element: true,
                ..
            }
        ) && matches!(
            self.errno(),
            // ENOTEMPTY is how some kernels call two networks that overlap.
            Some(Errno::ENOENT | Errno::EEXIST | Errno::ENOTEMPTY)
        )
    }

    /// It was refused for what stands in it: without a part of it, it might go
    /// through. Otherwise nothing would: no right, no memory, no nf_tables.
    pub fn is_of_content(&self) -> bool {
        match self {
            Self::Refused { .. } => !matches!(
                self.errno(),
                Some(
                    Errno::EPERM
                        | Errno::EACCES
                        | Errno::ENOMEM
                        | Errno::ENOBUFS
                        | Errno::EMSGSIZE
                        | Errno::ENFILE
                        | Errno::EMFILE
                )
            ),
            Self::Invalid(_) => true,
            Self::Exchange { .. } | Self::Unsteady { .. } => false,
        }
    }
}

/// What to do about it, for the refusals that have one usual cause.
fn hint(source: &Exchange, is_element: bool) -> &'static str {
    match source.errno() {
        Some(Errno::EPERM | Errno::EACCES) => "; needs CAP_NET_ADMIN",
        Some(Errno::EPROTONOSUPPORT) => "; the kernel has no netfilter netlink",
        Some(Errno::ENOENT | Errno::EEXIST | Errno::ENOTEMPTY) if is_element => {
            "; the table is not as expected, or networks overlap"
        }
        Some(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOENT) => {
            "; needs Linux 5.6 or newer with nf_tables, nft_fib, nft_masq, nft_nat, nft_reject and conntrack"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use netlink_exchange::Refusal;

    use super::*;

    fn refused(errno: Errno, is_element: bool) -> NftError {
        NftError::Refused {
            operation: "change nftables table ip kube-ipvs".to_owned(),
            source: Exchange::Refused(Refusal::new(errno)),
            at: "delete element 10.99.99.99 of set vips".to_owned(),
            is_element,
        }
    }

    #[test]
    fn a_refusal_names_the_element_and_what_helps() {
        assert_eq!(
            refused(Errno::ENOENT, true).to_string(),
            "change nftables table ip kube-ipvs: No such file or directory (ENOENT), \
             at `delete element 10.99.99.99 of set vips`; \
             the table is not as expected, or networks overlap"
        );
    }

    #[test]
    fn only_elements_can_be_stale() {
        assert!(refused(Errno::ENOENT, true).is_stale());
        assert!(refused(Errno::EEXIST, true).is_stale());
        assert!(!refused(Errno::EINVAL, true).is_stale());
        // An instruction that the kernel does not have.
        assert!(!refused(Errno::ENOENT, false).is_stale());
    }

    #[test]
    fn a_refusal_is_of_the_content_or_of_everything() {
        assert!(refused(Errno::EINVAL, true).is_of_content());
        assert!(refused(Errno::ERANGE, true).is_of_content());
        assert!(!refused(Errno::EPERM, true).is_of_content());
        assert!(!refused(Errno::ENOMEM, false).is_of_content());
        let whole = NftError::exchange("change nftables")(Exchange::Overrun);
        assert!(!whole.is_of_content());
    }
}

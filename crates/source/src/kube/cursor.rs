//! Where one kind is in the server's history.

use super::failure::Failure;
use super::requests::As;

/// So often a list from the past is refused; then it is believed, since a
/// cluster restored from a backup does go back.
const STALE_LISTS: u32 = 5;

/// The place in the server's history. It never goes back by itself.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Where the next watch starts; none means list first.
    position: Option<String>,
    /// The newest version known to exist.
    known: Option<String>,
    /// The server has lost our place: only a list as of now will do.
    lost: bool,
    /// Lists in a row that were older than what we know.
    stale: u32,
}

impl Cursor {
    /// Where the next watch starts; none means list first.
    pub(super) fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// The newest version known to exist.
    pub(super) fn known(&self) -> Option<&str> {
        self.known.as_deref()
    }

    /// How new a list must be; `at_first` when nothing is known.
    pub(super) fn wanted(&self, at_first: As) -> As {
        match &self.known {
            _ if self.lost => As::Newest,
            Some(known) => As::NotOlderThan(known.clone()),
            None => at_first,
        }
    }

    /// # Errors
    /// [`Failure::Stale`] for a list that is older than what is known.
    pub(super) fn check_age(&self, version: &str) -> Result<(), Failure> {
        match self.newer_than(version) {
            Some(known) => Err(Failure::Stale {
                listed: version.to_owned(),
                known: known.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// A list as of this version was whole.
    pub(super) fn listed(&mut self, version: String) {
        *self = Self {
            position: Some(version.clone()),
            known: Some(version),
            lost: false,
            stale: 0,
        };
    }

    /// # Errors
    /// [`Failure::Broken`] for a bookmark of the past.
    pub(super) fn check_bookmark(&self, version: &str) -> Result<(), Failure> {
        match self.newer_than(version) {
            Some(known) => Err(Failure::Broken(format!(
                "a bookmark at {version}, though {known} was seen before"
            ))),
            None => Ok(()),
        }
    }

    /// The newest version known, when this one is of before.
    fn newer_than(&self, version: &str) -> Option<&str> {
        self.known().filter(|known| number(version) < number(known))
    }

    /// Moves the place forward, never back.
    pub(super) fn advance(&mut self, at: u64) {
        if at > self.position.as_deref().map_or(0, number) {
            self.position = Some(at.to_string());
            self.known.clone_from(&self.position);
        }
    }

    /// What a failure says about the place.
    pub(super) fn learn(&mut self, failure: &Failure) {
        match failure {
            Failure::Gone(_) => (self.position, self.lost) = (None, true),
            Failure::Back { .. } => {
                (self.position, self.known, self.lost) = (None, None, true);
            }
            // Not a version this server can wait for.
            Failure::Refused { code: 504, .. } => self.lost = true,
            Failure::Refused { code: 400, .. } => self.position = None,
            Failure::Stale { .. } => {
                self.stale += 1;
                if self.stale >= STALE_LISTS {
                    self.known = None;
                }
            }
            _ => {}
        }
    }
}

/// A resource version as a number; 0 if it is none.
pub(super) fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: &str) -> Cursor {
        let mut cursor = Cursor::default();
        cursor.listed(version.to_owned());
        cursor
    }

    #[test]
    fn the_place_goes_forward_alone() {
        let mut cursor = at("10");
        cursor.advance(9);
        assert_eq!(cursor.position(), Some("10"));
        cursor.advance(11);
        assert_eq!(
            (cursor.position(), cursor.known()),
            (Some("11"), Some("11"))
        );
        assert!(cursor.check_bookmark("10").is_err());
        assert!(cursor.check_bookmark("11").is_ok());
    }

    #[test]
    fn a_lost_place_asks_for_the_newest_until_a_list_is_whole() {
        let mut cursor = at("10");
        assert!(matches!(cursor.wanted(As::Cached), As::NotOlderThan(v) if v == "10"));
        cursor.learn(&Failure::Gone(String::new()));
        assert_eq!(cursor.position(), None);
        assert!(matches!(cursor.wanted(As::Cached), As::Newest));
        cursor.listed("12".to_owned());
        assert!(matches!(cursor.wanted(As::Cached), As::NotOlderThan(v) if v == "12"));
    }

    #[test]
    fn the_past_is_believed_when_it_is_told_again_and_again() {
        let mut cursor = at("10");
        for _ in 1..STALE_LISTS {
            let stale = cursor.check_age("9").expect_err("older");
            cursor.learn(&stale);
        }
        let last = cursor.check_age("9").expect_err("once too few");
        cursor.learn(&last);
        assert!(cursor.check_age("9").is_ok());
        // Whole lists between them begin the count anew.
        cursor.listed("9".to_owned());
        assert!(cursor.check_age("8").is_err());
    }

    #[test]
    fn a_server_that_went_back_is_followed_from_where_it_is() {
        let mut cursor = at("10");
        cursor.learn(&Failure::Back {
            known: "10".to_owned(),
            now: "4".to_owned(),
        });
        assert_eq!((cursor.position(), cursor.known()), (None, None));
        assert!(cursor.check_age("4").is_ok());
    }
}

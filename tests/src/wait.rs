//! Waiting for a condition instead of sleeping.

use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Tries until it succeeds and returns what that gave; after `timeout` the last
/// failure, for who wants to say more than that it took too long.
///
/// # Errors
/// No try succeeded within `timeout`.
pub fn wait_for<T, E>(
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + timeout;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            ended => return ended,
        }
    }
}

/// Waits until `condition` holds; panics, naming `what`, when it does not
/// within `timeout`.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let held = wait_for(timeout, || condition().then_some(()).ok_or(()));
    assert!(held.is_ok(), "not within {timeout:?}: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_what_is_told() {
        let mut tries = 0;
        let mut attempt = || {
            tries += 1;
            if tries < 3 { Err(tries) } else { Ok(tries) }
        };

        assert_eq!(wait_for(Duration::ZERO, &mut attempt), Err(1));
        assert_eq!(wait_for(Duration::from_secs(3600), attempt), Ok(3));
    }
}

//! Chance that can be repeated.

use std::env;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Sets the seed; without it every run has another.
pub const SEED: &str = "KUBE_IPVS_SEED";

/// Random numbers for a test, from the seed in `KUBE_IPVS_SEED` or a new one.
/// Prints how to do the same again, which a failing test shows.
///
/// # Panics
/// When the variable holds no number.
pub fn chance() -> StdRng {
    let seed = match env::var(SEED) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{SEED}={text}: {error}")),
        Err(_) => rand::random(),
    };
    eprintln!("repeat this with {SEED}={seed}");
    StdRng::seed_from_u64(seed)
}

//! The program `nft`: its version, and the things it is asked to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, trace};

use crate::child::{self, Failure, Finished};
use crate::error::{NftError, refused};
use crate::foreign::{self, ForeignChain};
use crate::json::Listing;
use crate::{Family, Observed, TABLE, render_delete, render_foreign_accept};

/// Version of nftables: `1.0.6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The first nftables that knows intervals in concatenations (Linux 5.6).
pub const MINIMUM_VERSION: Version = Version {
    major: 0,
    minor: 9,
    patch: 4,
};

/// What one call may take. 20,000 elements take about a second, ten in an emulator.
const LIMIT: Duration = Duration::from_secs(60);

/// The program `nft`, found and known to be new enough.
///
/// Every call is one child process that works in the network namespace of the
/// calling thread, and blocks until it ends.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
    version: Version,
    limit: Duration,
}

impl Nft {
    /// Finds `nft` in `PATH`.
    ///
    /// # Errors
    /// There is none, or it is older than [`MINIMUM_VERSION`].
    pub fn find() -> Result<Self, NftError> {
        Self::at("nft")
    }

    /// Takes the program at this path.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn at(program: impl Into<PathBuf>) -> Result<Self, NftError> {
        let program = program.into();
        let operation = format!("{} --version", program.display());
        let finished = run(&program, &operation, &["--version"], "", LIMIT)?;
        let answer = String::from_utf8_lossy(&finished.stdout);
        let Some(version) = parse_version(&answer) else {
            return Err(NftError::NoVersion {
                program,
                answer: answer.chars().take(80).collect(),
            });
        };
        debug!(program = %program.display(), %version, "found nft");
        if version < MINIMUM_VERSION {
            return Err(NftError::TooOld {
                program,
                found: version,
            });
        }
        Ok(Self {
            program,
            version,
            limit: LIMIT,
        })
    }

    /// The same program with another limit for each call.
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// What `nft --version` said.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Path as given, or `nft`.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Carries a text out in one transaction: all of it or nothing. Empty text
    /// runs nothing. Equivalent to `nft -f -`.
    ///
    /// # Errors
    /// [`NftError::Refused`] names the line or element that was refused.
    pub fn apply(&self, text: &str) -> Result<(), NftError> {
        if text.is_empty() {
            return Ok(());
        }
        trace!(text, "nft -f -");
        self.run(&format!("apply nft table {TABLE}"), &["-f", "-"], text)
            .map(drop)
    }

    /// Reads our table. None when there is none. Equivalent to
    /// `nft -j list table ip kube-ipvs`.
    ///
    /// # Errors
    /// nft failed, or its answer cannot be read.
    pub fn read(&self, family: Family) -> Result<Option<Observed>, NftError> {
        let operation = format!("read nft table {family} {TABLE}");
        let args = ["-j", "list", "table", family.name(), TABLE];
        match self.list(&operation, &args) {
            Ok(listing) => Ok(Some(Observed::from_listing(family, &listing))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes our table away; fine when there is none.
    ///
    /// # Errors
    /// nft or the kernel said no.
    pub fn delete_table(&self, family: Family) -> Result<(), NftError> {
        let operation = format!("delete nft table {family} {TABLE}");
        self.run(&operation, &["-f", "-"], &render_delete(family))
            .map(drop)
    }

    /// Base chains of others at `input` and `forward` that drop what they do not
    /// know. Nothing in our table can overrule them; see [`accept_in`](Self::accept_in).
    ///
    /// Tables made by `iptables-nft` are seen as well. Those of
    /// `iptables-legacy` are not reachable by nft and not seen.
    ///
    /// # Errors
    /// nft failed, or its answer cannot be read.
    pub fn foreign_drops(&self) -> Result<Vec<ForeignChain>, NftError> {
        let chains = self.list("list foreign nft chains", &["-j", "list", "chains"])?;
        let mut found = Vec::new();
        for base in foreign::base_chains(&chains) {
            let Some(rules) = self.rules_of(&base)? else {
                continue;
            };
            found.extend(foreign::judge(base, &rules));
        }
        Ok(found)
    }

    /// Inserts our accept rule at the top of a foreign chain, unless it stands
    /// there. Opt-in; needs the same bit in [`Config::accept_bit`](crate::Config::accept_bit).
    /// True when it was inserted.
    ///
    /// # Errors
    /// nft or the kernel said no, or the chain's priority is out of reach
    /// ([`ForeignChain::is_reachable`]).
    pub fn accept_in(&self, chain: &ForeignChain, accept_bit: u8) -> Result<bool, NftError> {
        let text = render_foreign_accept(chain, accept_bit)?;
        if let Some(rules) = self.rules_of(chain)? {
            let ours = foreign::our_rules(&rules);
            if ours.iter().any(|rule| rule.mask == Some(1 << accept_bit)) {
                return Ok(false);
            }
        }
        self.run(&format!("accept in {chain}"), &["-f", "-"], &text)?;
        Ok(true)
    }

    /// Removes the accept rules that [`accept_in`](Self::accept_in) made, wherever
    /// they are. Gives their number.
    ///
    /// # Errors
    /// nft failed, or the kernel said no.
    pub fn remove_accepts(&self) -> Result<usize, NftError> {
        let text = self.removal_of_accepts()?;
        if !text.is_empty() {
            self.run(
                "remove accept rules from foreign nft chains",
                &["-f", "-"],
                &text,
            )?;
        }
        Ok(text.lines().count())
    }

    /// How many accept rules [`remove_accepts`](Self::remove_accepts) would remove.
    ///
    /// # Errors
    /// nft failed, or its answer cannot be read.
    pub fn accepts(&self) -> Result<usize, NftError> {
        Ok(self.removal_of_accepts()?.lines().count())
    }

    fn removal_of_accepts(&self) -> Result<String, NftError> {
        let chains = self.list("list foreign nft chains", &["-j", "list", "chains"])?;
        let mut text = String::new();
        for base in foreign::base_chains(&chains) {
            for rule in self.rules_of(&base)?.iter().flat_map(foreign::our_rules) {
                text += &foreign::render_delete_rule(&base, rule.handle)?;
            }
        }
        Ok(text)
    }

    /// The rules of a chain; none when it vanished meanwhile.
    fn rules_of(&self, chain: &ForeignChain) -> Result<Option<Listing>, NftError> {
        let operation = format!("list {chain}");
        let args = [
            "-a",
            "-j",
            "list",
            "chain",
            &chain.family,
            &chain.table,
            &chain.chain,
        ];
        match self.list(&operation, &args) {
            Ok(listing) => Ok(Some(listing)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, operation: &str, args: &[&str]) -> Result<Listing, NftError> {
        let stdout = self.run(operation, args, "")?.stdout;
        Listing::parse(&stdout).map_err(|detail| NftError::Unreadable {
            operation: operation.to_owned(),
            detail,
        })
    }

    fn run(&self, operation: &str, args: &[&str], input: &str) -> Result<Finished, NftError> {
        run(&self.program, operation, args, input, self.limit)
    }
}

fn run(
    program: &Path,
    operation: &str,
    args: &[&str],
    input: &str,
    limit: Duration,
) -> Result<Finished, NftError> {
    let finished = child::run(program, args, input, limit).map_err(|failure| match failure {
        Failure::Start(source) => NftError::Start {
            program: program.to_owned(),
            source,
        },
        Failure::Io(source) => NftError::Io {
            operation: operation.to_owned(),
            source,
        },
        Failure::TimedOut => NftError::TimedOut {
            operation: operation.to_owned(),
            limit,
        },
    })?;
    if finished.status.success() {
        return Ok(finished);
    }
    let stderr = String::from_utf8_lossy(&finished.stderr);
    debug!(operation, %stderr, "nft refused");
    Err(refused(operation, &stderr, input))
}

/// Reads `nftables v1.0.6 (Lester Gooch #5)`; a missing third number is 0.
fn parse_version(answer: &str) -> Option<Version> {
    let word = answer.split_whitespace().nth(1)?.strip_prefix('v')?;
    let mut numbers = word.splitn(3, '.').map(|part| {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        part[..digits].parse().ok()
    });
    Some(Version {
        major: numbers.next()??,
        minor: numbers.next()??,
        patch: numbers.next().flatten().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read() {
        let version = |answer: &str| parse_version(answer).map(|version| version.to_string());

        assert_eq!(
            version("nftables v1.0.6 (Lester Gooch #5)").as_deref(),
            Some("1.0.6")
        );
        assert_eq!(version("nftables v0.9.0-rc1").as_deref(), Some("0.9.0"));
        assert_eq!(version("nftables v2.0\n").as_deref(), Some("2.0.0"));
        assert_eq!(
            version("BusyBox v1.35.0 multi-call").as_deref(),
            Some("1.35.0")
        );
        assert_eq!(version("nftables"), None);
        assert_eq!(version("nftables vé.1"), None);
    }
}

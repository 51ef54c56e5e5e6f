//! How the source is doing: for `/readyz`, metrics and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube_ipvs_core::event::Kind;

use super::count::Call;
use super::servers::Learned;

/// A silence of the API server that `/readyz` speaks of.
const STALE: Duration = Duration::from_secs(300);

/// What the tasks of a source share with those who report.
#[derive(Debug, Default)]
pub struct SourceStatus {
    inner: Mutex<Inner>,
    learned: Learned,
}

#[derive(Debug, Default)]
struct Inner {
    kinds: BTreeMap<Kind, KindStatus>,
    requests: BTreeMap<(Call, u16), u64>,
    missing_node: Option<String>,
}

/// How one kind is doing.
#[derive(Debug, Clone, Default)]
pub struct KindStatus {
    /// A full list has been passed on, now or earlier.
    pub listed: bool,
    /// A watch is open.
    pub watching: bool,
    /// When an event, a bookmark or a page last came.
    pub heard: Option<Instant>,
    /// What went wrong last, until it goes well again.
    pub failure: Option<String>,
    /// Failures so far.
    pub failures: u64,
    /// Full lists so far.
    pub lists: u64,
    /// Objects skipped because they do not decode, so far.
    pub undecodable: u64,
    /// Events dropped because something later was known, so far.
    pub repeats: u64,
}

impl SourceStatus {
    /// Addresses of API servers that the source was told of.
    pub(super) fn learned(&self) -> &Learned {
        &self.learned
    }

    /// One kind; the default before its task has begun.
    pub fn kind(&self, kind: Kind) -> KindStatus {
        self.lock().kinds.get(&kind).cloned().unwrap_or_default()
    }

    /// All kinds that are watched.
    pub fn kinds(&self) -> BTreeMap<Kind, KindStatus> {
        self.lock().kinds.clone()
    }

    /// Whether every kind has been listed whole at least once.
    pub fn synced(&self) -> bool {
        let inner = self.lock();
        !inner.kinds.is_empty() && inner.kinds.values().all(|kind| kind.listed)
    }

    /// How long the kind that has been silent longest has been so; none if
    /// one was never heard of.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        let ages = inner
            .kinds
            .values()
            .map(|kind| kind.heard.map(|heard| now.saturating_duration_since(heard)));
        ages.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// What `/readyz` says of the source, if anything: what it waits for, or how
    /// old the state is when the API server has been silent for five minutes.
    pub fn reason(&self, now: Instant) -> Option<String> {
        let reasons = self.reasons();
        if !reasons.is_empty() {
            return Some(reasons.join("; "));
        }
        let age = self.age(now).filter(|age| *age > STALE)?;
        let seconds = age.as_secs();
        Some(format!(
            "no word from the API server for {seconds} s; what is known is served"
        ))
    }

    /// Which kinds were listed and cannot be followed now, and why the first of
    /// them cannot: what is known of them may be of before.
    pub fn behind(&self) -> Option<String> {
        let inner = self.lock();
        let all = inner.kinds.iter();
        let behind = all.filter_map(|(kind, status)| {
            let failure = status.failure.as_deref()?;
            (status.listed && !status.watching).then(|| (kind.to_string(), failure))
        });
        let (kinds, failures): (Vec<String>, Vec<&str>) = behind.unzip();
        let failure = failures.first()?;
        let kinds = kinds.join(", ");
        Some(format!(
            "{kinds} cannot be followed: {failure}; what is known is served"
        ))
    }

    /// Name of this node, when the API server does not know it.
    pub fn missing_node(&self) -> Option<String> {
        self.lock().missing_node.clone()
    }

    /// What keeps the source from being ready, a line each: kinds never listed,
    /// and this node unknown.
    pub fn reasons(&self) -> Vec<String> {
        let inner = self.lock();
        let unlisted =
            inner
                .kinds
                .iter()
                .filter(|(_, status)| !status.listed)
                .map(|(kind, status)| {
                    let failure = status.failure.as_deref().unwrap_or("no answer yet");
                    format!("{kind}: not listed yet: {failure}")
                });
        let missing = inner
            .missing_node
            .iter()
            .map(|name| format!("Node {name} is not known to the API server"));
        unlisted.chain(missing).collect()
    }

    /// Requests so far by verb, resource and HTTP status (0: no answer).
    pub fn requests(&self) -> BTreeMap<(&'static str, String, u16), u64> {
        let inner = self.lock();
        inner
            .requests
            .iter()
            .map(|((call, code), count)| ((call.verb, call.resource.clone(), *code), *count))
            .collect()
    }

    pub(super) fn count_request(&self, call: Call, code: u16) {
        *self.lock().requests.entry((call, code)).or_default() += 1;
    }

    pub(super) fn update(&self, kind: Kind, change: impl FnOnce(&mut KindStatus)) {
        change(self.lock().kinds.entry(kind).or_default());
    }

    pub(super) fn heard(&self, kind: Kind) {
        // The runtime's clock, which a test can let run faster.
        let now = tokio::time::Instant::now().into_std();
        self.update(kind, |status| status.heard = Some(now));
    }

    pub(super) fn set_missing_node(&self, name: Option<&str>) {
        self.lock().missing_node = name.map(str::to_owned);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_synced_when_every_kind_is_listed() {
        let status = SourceStatus::default();
        assert!(!status.synced());

        status.update(Kind::Service, |kind| kind.listed = true);
        status.update(Kind::Node, |kind| {
            kind.failure = Some("nodes is forbidden".into())
        });
        assert!(!status.synced());
        assert_eq!(
            status.reasons(),
            ["Node: not listed yet: nodes is forbidden"]
        );

        status.update(Kind::Node, |kind| kind.listed = true);
        assert!(status.synced());
    }

    #[test]
    fn who_was_listed_and_cannot_be_followed_is_behind() {
        let status = SourceStatus::default();
        let fails = |kind: &mut KindStatus| kind.failure = Some("connection refused".into());
        status.update(Kind::Node, fails);
        status.update(Kind::Service, |kind| {
            (kind.listed, kind.watching) = (true, true)
        });
        status.update(Kind::Service, fails);
        assert_eq!(status.behind(), None, "one never listed, one watched");

        status.update(Kind::Service, |kind| kind.watching = false);
        status.update(Kind::EndpointSlice, |kind| {
            (kind.listed, kind.failure) = (true, Some("no answer".into()));
        });
        let text = "Service, EndpointSlice cannot be followed: connection refused; what is known is served";
        assert_eq!(status.behind().as_deref(), Some(text));

        for kind in [Kind::Service, Kind::EndpointSlice] {
            status.update(kind, |kind| kind.failure = None);
        }
        assert_eq!(status.behind(), None, "a watch that ends is opened again");
    }

    #[test]
    fn age_is_that_of_the_most_silent_kind() {
        let status = SourceStatus::default();
        let now = Instant::now();
        status.update(Kind::Service, |kind| kind.heard = Some(now));
        status.update(Kind::Node, |kind| kind.heard = Some(now));

        let later = now + Duration::from_secs(9);

        assert_eq!(status.age(later), Some(Duration::from_secs(9)));
    }
}

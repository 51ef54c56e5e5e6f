//! Names of the pods of the Service that is looked at in depth, asked for beside the looks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kube_ipvs_source::tasks::Tasks;

use crate::pods::{PodArgs, PodNames};

/// Between two questions about one Service.
const PAUSE: Duration = Duration::from_secs(10);

/// What was asked last.
#[derive(Debug)]
struct Asked {
    service: String,
    /// Of its real servers then.
    addresses: BTreeSet<IpAddr>,
    at: Instant,
    failed: bool,
}

impl Asked {
    /// Whether to ask again: of another Service, of real servers that have come, or after a
    /// failure. Pods keep their names, so nothing is asked while nothing changes.
    fn is_stale(&self, service: &str, addresses: &BTreeSet<IpAddr>, now: Instant) -> bool {
        if self.service != service {
            return true;
        }
        now >= self.at + PAUSE && (self.failed || !addresses.is_subset(&self.addresses))
    }
}

/// Asks the API server, one question at a time, on a thread of its own: keys are obeyed meanwhile.
#[derive(Debug)]
pub(super) struct Asking {
    args: PodArgs,
    last: Option<Asked>,
    answer: Option<JoinHandle<anyhow::Result<PodNames>>>,
}

impl Asking {
    /// Nothing is asked yet.
    pub(super) fn new(args: PodArgs) -> Self {
        Self {
            args,
            last: None,
            answer: None,
        }
    }

    /// The answer to the last question, if it came meanwhile; then the next question, if it is time.
    /// Without a Service there is nothing to ask for, and that is said.
    pub(super) fn turn(
        &mut self,
        service: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
        now: Instant,
    ) -> Option<anyhow::Result<PodNames>> {
        if !self.args.pods {
            return None;
        }
        let Some(service) = service else {
            let why = "no names of pods: no daemon has recorded what Service this is";
            return Some(Err(anyhow::anyhow!(why)));
        };
        let answer = self.answer();
        let stale = |last: &Asked| last.is_stale(service, addresses, now);
        if self.answer.is_none() && self.last.as_ref().is_none_or(stale) {
            self.last = Some(Asked {
                service: service.to_owned(),
                addresses: addresses.clone(),
                at: now,
                failed: false,
            });
            let (args, service) = (self.args.clone(), service.to_owned());
            let ask = move || PodNames::asked(&args, &BTreeSet::from([&service[..]]));
            match Tasks::thread("pods", ask) {
                Ok(thread) => self.answer = Some(thread),
                Err(error) => return Some(Err(error)),
            }
        }
        answer
    }

    fn answer(&mut self) -> Option<anyhow::Result<PodNames>> {
        let thread = self.answer.take_if(|thread| thread.is_finished())?;
        let answer = match thread.join() {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no names of pods: the question failed")),
        };
        if let Some(last) = &mut self.last {
            last.failed = answer.is_err();
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> BTreeSet<IpAddr> {
        let all = last.iter();
        all.map(|last| IpAddr::from([10, 244, 1, *last])).collect()
    }

    #[test]
    fn only_what_has_changed_is_asked_again() {
        let now = Instant::now();
        let mut asked = Asked {
            service: "ns/web".to_owned(),
            addresses: addresses(&[1, 2]),
            at: now,
            failed: false,
        };
        let later = now + PAUSE;
        assert!(asked.is_stale("ns/dns", &addresses(&[1]), now), "another");
        assert!(!asked.is_stale("ns/web", &addresses(&[1]), later), "fewer");
        let more = addresses(&[1, 2, 3]);
        assert!(!asked.is_stale("ns/web", &more, now), "too early");
        assert!(asked.is_stale("ns/web", &more, later), "new ones");
        asked.failed = true;
        assert!(asked.is_stale("ns/web", &addresses(&[1]), later), "failed");
    }

    #[test]
    fn why_there_are_no_names_is_said() {
        let mut asking = Asking::new(PodArgs {
            pods: true,
            kubeconfig: Some("/nowhere/kubeconfig".into()),
        });
        let (now, none) = (Instant::now(), BTreeSet::new());
        let nobody = asking.turn(None, &none, now).expect("it says why");
        let said = nobody.unwrap_err().to_string();
        assert!(said.contains("no daemon"), "{said}");

        assert!(asking.turn(Some("ns/web"), &none, now).is_none(), "asked");
        let answer = asking.answer.take().expect("one is asked").join();
        let said = format!("{:#}", answer.expect("no panic").unwrap_err());
        assert!(said.contains("/nowhere/kubeconfig"), "{said}");
    }

    #[test]
    fn nobody_is_asked_unless_it_is_wanted() {
        let mut asking = Asking::new(PodArgs::default());
        let none = BTreeSet::new();
        for service in [None, Some("ns/web")] {
            assert!(asking.turn(service, &none, Instant::now()).is_none());
        }
        assert!(asking.answer.is_none());
    }
}

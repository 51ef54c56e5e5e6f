//! What the loop says when it is asked about a Service.

use kube_ipvs_core::{Account, ServiceName};

use super::Syncer;
use super::refusals::Subject;
use crate::answers::{Ask, Refused, Told, VERSION, near};
use crate::dataplane::Dataplane;

impl<D: Dataplane> Syncer<D> {
    /// What is known of it.
    pub fn told(&self, ask: &Ask) -> Told {
        let cluster = self.cluster();
        let name = self.meant(ask);
        let account = name.as_ref().and_then(|name| cluster.account(name));
        let asked = match ask {
            Ask::Service { name, .. } => Some(&name[..]),
            Ask::Front(_) => None,
        };
        let named = asked.into_iter().flat_map(|asked| {
            let all = cluster.services();
            all.filter(move |service| *service.name == *asked)
        });
        let elsewhere = named.filter(|service| Some(*service) != name.as_ref());
        let near = match (asked, &account) {
            (Some(asked), None) => near(asked, cluster.services().map(ToString::to_string)),
            _ => Vec::new(),
        };
        Told {
            version: VERSION,
            awaited: cluster.awaited().map(|kind| kind.to_string()).collect(),
            elsewhere: elsewhere.take(5).map(ToString::to_string).collect(),
            near,
            refused: account.iter().flat_map(|of| self.refused_of(of)).collect(),
            account,
        }
    }

    /// The Service that is meant, there or not.
    fn meant(&self, ask: &Ask) -> Option<ServiceName> {
        let (namespace, name) = match ask {
            Ask::Front(key) => return Some(self.cluster().service_of(key)?.service),
            Ask::Service { namespace, name } => (namespace, name),
        };
        let first = namespace.as_deref().unwrap_or("default");
        let meant = ServiceName::new(first, name);
        if namespace.is_some() || self.cluster().service(&meant).is_some() {
            return Some(meant);
        }
        let mut others = self
            .cluster()
            .services()
            .filter(|other| *other.name == **name);
        match (others.next(), others.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => Some(meant),
        }
    }

    fn refused_of<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = Refused> + 'a {
        let its = |key| account.fronts.iter().any(|front| front.key == key);
        self.refusals()
            .iter()
            .filter_map(move |(subject, refusal)| {
                let Subject::Change(change) = subject else {
                    return None;
                };
                let key = change.virtual_server().filter(|key| its(*key))?;
                Some(Refused {
                    key,
                    error: refusal.error.clone(),
                })
            })
    }
}

//! What the loop says when it is asked about a Service.

use kube_ipvs_core::{Account, Change, ServiceName, Unknown};
use kube_ipvs_dataplane::Dataplane;

use super::Syncer;
use super::refusals::Subject;
use crate::answers::{Ask, Refused, Told, VERSION, near};

impl<D: Dataplane> Syncer<D> {
    /// What is known of it.
    pub fn told(&self, ask: &Ask) -> Told {
        let cluster = self.cluster();
        let name = self.meant(ask);
        let account = name.as_ref().and_then(|name| cluster.account(name));
        let asked = match ask {
            Ask::Service { name, .. } => Some(&name[..]),
            Ask::Front(_) | Ask::Node => None,
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
            unread: name.as_ref().and_then(|name| self.unread(name)),
            // They are known to who answers, and not here.
            reasons: Default::default(),
            warnings: Default::default(),
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
            Ask::Node => return None,
        };
        let first = namespace.as_deref().unwrap_or("default");
        let meant = ServiceName::new(first, name);
        if namespace.is_some() || self.cluster().has_service(&meant) {
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

    /// What could not be read of a Service: as long as that is so, what is known
    /// of it may be less than there is.
    fn unread(&self, name: &ServiceName) -> Option<String> {
        let text = match self.cluster().unknown() {
            Unknown::Everything => {
                "not every Service and EndpointSlice could be read, and this may be among them"
                    .to_owned()
            }
            Unknown::Some { services, .. } if services.contains(name) => {
                "it is there and could not be read".to_owned()
            }
            Unknown::Some { namespaces, .. } if namespaces.contains(&*name.namespace) => format!(
                "an EndpointSlice of namespace {} could not be read: it may have more endpoints",
                name.namespace
            ),
            Unknown::Some { .. } => return None,
        };
        Some(text)
    }

    fn refused_of<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = Refused> + 'a {
        let its = |key| account.fronts.iter().any(|front| front.key == key);
        let is_at = |address| {
            let mut fronts = account.fronts.iter();
            fronts.any(|front| {
                front
                    .key
                    .front()
                    .is_some_and(|front| front.address == address)
            })
        };
        let changes = self.refusals().iter();
        changes.filter_map(move |(subject, refusal)| {
            let Subject::Change(change) = subject else {
                return None;
            };
            let key = change.virtual_server();
            // What an endpoint sends to itself is about no address of a Service.
            let address = match change {
                Change::Hairpin(_) => None,
                change => change.address(),
            };
            (key.is_some_and(its) || address.is_some_and(is_at)).then(|| Refused {
                what: change.to_string(),
                key,
                address,
                error: refusal.error.clone(),
            })
        })
    }
}

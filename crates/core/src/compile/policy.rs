//! Who answers a front, and with which source address: decided here for every
//! kind of front and policy, and nowhere else.

use super::endpoints::{Choice, Servers};
use crate::options::Options;
use crate::row::{Masquerade, Row, Verdict};
use crate::services::FrontKind;

/// What happens to the traffic of a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Treatment {
    /// To traffic in general.
    pub(super) outside: Outside,
    /// Traffic from local pods and this host gets a mark instead, by which it
    /// goes to the endpoints of the whole cluster.
    pub(super) inside: bool,
    /// Whose address the endpoint sees.
    pub(super) masquerade: Masquerade,
}

/// Who answers traffic without a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    /// Endpoints anywhere.
    Cluster,
    /// Endpoints on this node.
    Local,
    /// Nobody, silently: another node has them.
    Dropped,
    /// Nobody, at once.
    Refused,
}

/// The decision. `asked` is what the owner wants for clients' addresses.
pub(super) fn treat(
    kind: FrontKind,
    local_policy: bool,
    choice: &Choice,
    asked: Option<Masquerade>,
    options: &Options,
) -> Treatment {
    let internal = kind == FrontKind::ClusterIp;
    let outside = match (local_policy, internal) {
        (false, _) if choice.cluster.is_empty() => Outside::Refused,
        (false, _) => Outside::Cluster,
        (true, _) if !choice.local.is_empty() => Outside::Local,
        // The client is on this node, so nobody else could answer it.
        (true, true) => Outside::Refused,
        (true, false) if choice.cluster.is_empty() => Outside::Refused,
        (true, false) => Outside::Dropped,
    };
    let masquerade = match (outside, asked) {
        (Outside::Refused, _) => Masquerade::Never,
        (_, Some(asked)) => asked,
        (Outside::Dropped, None) => Masquerade::Never,
        _ if internal && options.masquerade_all => Masquerade::Always,
        _ if internal && options.detect_local => Masquerade::OffCluster,
        _ if internal => Masquerade::Never,
        (Outside::Cluster, None) => Masquerade::Always,
        (Outside::Local, None) => Masquerade::Never,
    };
    let inside = match outside {
        Outside::Dropped => true,
        Outside::Local => !internal && !choice.local.same_as(&choice.cluster),
        Outside::Cluster | Outside::Refused => false,
    };
    Treatment {
        outside,
        inside,
        masquerade,
    }
}

impl Treatment {
    /// The real servers of the front's virtual server, if it has one.
    pub(super) fn servers<'c>(&self, choice: &'c Choice) -> Option<&'c Servers> {
        match self.outside {
            Outside::Cluster => Some(&choice.cluster),
            Outside::Local => Some(&choice.local),
            Outside::Dropped | Outside::Refused => None,
        }
    }

    /// The row of the front, without marks and sources.
    pub(super) fn row(&self) -> Row {
        Row {
            masquerade: self.masquerade,
            ..Row::of(match self.outside {
                Outside::Refused => Verdict::Refuse,
                Outside::Dropped => Verdict::DropOutside,
                Outside::Cluster | Outside::Local => Verdict::Serve,
            })
        }
    }
}

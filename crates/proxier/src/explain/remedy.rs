//! What to do about what becomes of a connection.

use super::answer::Answer;
use super::nobody::Nobody;
use super::reason::Reason;

impl Reason {
    /// What to do, if there is anything. `runs` says whether a daemon does.
    pub(crate) fn remedy(&self, runs: bool) -> Option<String> {
        let text = match self {
            Self::Missing(_) | Self::Sysctl { .. } if runs => {
                "wait for --ipvs-sync-period: the running kube-ipvs puts it right; \
                 if it does not, its log and /readyz?verbose say why"
            }
            Self::Missing(_) | Self::Sysctl { .. } => {
                "start kube-ipvs on this node: it puts it right"
            }
            Self::NobodyAnswers(Nobody::Unknown) if runs => {
                "kubectl get endpointslices, and /readyz?verbose"
            }
            Self::NobodyAnswers(Nobody::Unknown) => {
                "start kube-ipvs on this node: nothing follows the cluster here"
            }
            Self::NobodyAnswers(Nobody::NoEndpoints) => {
                "see that the Service's selector fits pods and targetPort is a port of theirs"
            }
            Self::NobodyAnswers(Nobody::NoneOfFamily(_)) => {
                "see that its pods have addresses of both families"
            }
            Self::NobodyAnswers(Nobody::NoneReady(_) | Nobody::LeavingElsewhere(_)) => {
                "see why its pods are not ready"
            }
            Self::NobodyAnswers(Nobody::NoneHere(_)) | Self::Elsewhere => {
                "ask a node that has an endpoint, or set the policy to Cluster"
            }
            Self::NobodyAnswers(Nobody::RefusedByKernel(_)) | Self::NotBound { .. } => {
                "as the error says; the daemon tries again by itself"
            }
            Self::OpenToNobody => "mend spec.loadBalancerSourceRanges",
            Self::SourceRange { .. } => "add the client's network to spec.loadBalancerSourceRanges",
            Self::AllDraining { .. } => "wait for a new endpoint: none is ready",
            Self::Chain {
                reachable: true, ..
            } => "let Service traffic pass in that chain, or run with --accept-in-foreign-chains",
            Self::Chain { .. } => {
                "let Service traffic pass in that chain; its priority is out of our reach"
            }
            Self::Answered(Answer {
                leaving: Some(_), ..
            }) => "see why its new pods are not ready, before the old ones have ended",
            Self::Answered(Answer {
                leaving_here: Some(_),
                ..
            }) => {
                "see why no new pod on this node is ready, before the old ones have ended; or set \
                 the policy to Cluster"
            }
            Self::Answered(_)
            | Self::HealthCheck
            | Self::Forwarder
            | Self::NotHere(_)
            | Self::NotAService
            | Self::OwnedByLink { .. }
            | Self::NoSuchPort
            | Self::Empty(_) => return None,
        };
        Some(text.to_owned())
    }
}

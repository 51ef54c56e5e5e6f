//! What the tools have in common on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// Everything, for programs
    Json,
}

/// Where tools find what the proxy keeps on this node.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Link that carries the VIPs
    #[arg(long, value_name = "NAME", default_value = "kube-ipvs0")]
    pub link: String,
    /// Where the ownership record, with the names of Services, is kept, and the daemon answers
    #[arg(long, value_name = "DIR", default_value = "/run/kube-ipvs")]
    pub state_dir: PathBuf,
}

impl Default for NodeArgs {
    fn default() -> Self {
        Self {
            link: "kube-ipvs0".into(),
            state_dir: "/run/kube-ipvs".into(),
        }
    }
}

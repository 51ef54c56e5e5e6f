//! What help says beside the flags: the commands in groups, and examples.

use clap::builder::styling::Styles;
use clap::{Command, Subcommand};

/// Of the program: its commands stand in groups, below the usage.
pub(crate) const TEMPLATE: &str =
    "{about-with-newline}\n{usage-heading} {usage}{after-help}\n\n{options}";

/// A heading, and names of commands.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Look at a node",
        &["status", "explain", "top", "inspect", "check"],
    ),
    ("Say what would be", &["plan", "compile"]),
    ("Change a node", &["run", "cleanup"]),
    ("About the program", &["version", "completion", "help"]),
];

const FIRST: &str = "
  kube-ipvs check                              can this node run it?
  kube-ipvs status                             is all well here, and if not, what to do
  kube-ipvs explain default/web                who answers, and why

`kube-ipvs COMMAND -h` has the usual flags and examples of each, `--help` all there is.";

pub(crate) const RUN: &str = "\
Examples:
  kube-ipvs run --hostname-override node-1     in a pod, with its service account
  kube-ipvs run --config /var/lib/kube-proxy/config.conf
  kube-ipvs run --manifests DIR                without an API server; follows the files
  kube-ipvs run --manifests DIR --once         one sync, exit code 0 when all of it was applied

docs/flags.md has each flag with its field of the file and its default; -h has the usual flags,
--help all of them.";

pub(crate) const PLAN: &str = "\
Examples:
  kube-ipvs plan --hostname-override node-1    asks the API server as the daemon does
  kube-ipvs plan --manifests DIR               what a sync of these files would change
  kube-ipvs plan --watch                       again whenever that changes
  kube-ipvs plan -o json                       for programs

Exit code: 0 nothing would change; 2 something would; 1 an error; 64 a wrong command line.";

pub(crate) const COMPILE: &str = "\
Examples:
  kube-ipvs compile --manifests DIR --hostname-override node-1
  kube-ipvs compile --manifests DIR --strict   a check for CI: any warning is exit code 1
  kube-ipvs compile --manifests - -o json      of standard input, for programs

docs/compile.md says what the keys mean. Exit code: 0; 1 an error, or a warning with --strict;
64 a wrong command line.";

pub(crate) const VERSION: &str = "\
Examples:
  kube-ipvs version
  kube-ipvs version -o json                    for programs";

pub(crate) const COMPLETION: &str = "\
Examples:
  source <(kube-ipvs completion bash)          for this shell
  kube-ipvs completion bash > /etc/bash_completion.d/kube-ipvs
  kube-ipvs completion fish > ~/.config/fish/completions/kube-ipvs.fish

Tab behind `kubectl ipvs` needs no script: kubectl asks a program kubectl_complete-ipvs on the PATH,
which is a link to this one.";

/// The commands of `C` in groups, and which to try first.
pub(crate) fn overview<C: Subcommand>() -> String {
    let all = C::augment_subcommands(Command::new("all"));
    let header = *Styles::styled().get_header();
    let literal = *Styles::styled().get_literal();
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text += &format!("{header}{heading}:{header:#}\n");
        for name in names {
            let about = match all.find_subcommand(name).and_then(Command::get_about) {
                Some(about) => about.to_string(),
                None => "Print this, or the help of a command".to_owned(),
            };
            text += &format!("  {literal}{name:<12}{literal:#}{about}\n");
        }
        text += "\n";
    }
    text + &format!("{header}Examples:{header:#}{FIRST}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_that_is_shown_is_in_one_group() {
        let program = Cli::command();
        let shown = program.get_subcommands().filter(|one| !one.is_hide_set());
        let mut shown: BTreeSet<_> = shown.map(Command::get_name).collect();
        shown.insert("help");
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).collect();
        grouped.sort_unstable();
        assert_eq!(grouped, shown.iter().collect::<Vec<_>>());
    }
}

//! How help shows the flags of `kube-ipvs run`: by what they are about, and in the
//! short form only those that most nodes need.

use clap::Arg;

use super::table::{Class, SETTINGS};

/// A heading, the flags below it that the short form has, and those of the long one.
type Group = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const SOURCE: &str = "Where Services come from";
const SERVING: &str = "How they are served";
const NODE_PORTS: &str = "NodePorts";

#[rustfmt::skip] // Names in lines are read at a glance.
const GROUPS: [Group; 7] = [
    (SOURCE,
     &["config", "hostname-override", "kubeconfig", "manifests", "service-proxy-name"],
     &["api-servers", "bind-address", "feature-gates", "master", "node-addresses", "service-annotations"]),
    (SERVING,
     &["allow-external-ips", "cluster-cidr", "ipvs-scheduler", "masquerade-all", "vip-binding"],
     &["detect-local-mode", "ipvs-exclude-cidrs", "ipvs-scheduler-flags", "ipvs-untracked-services",
       "iptables-masquerade-bit", "pod-bridge-interface", "pod-interface-name-prefix", "proxy-mode", "unallocated-cluster-ips"]),
    (NODE_PORTS,
     &["nodeport-addresses"],
     &["nodeport-reserved-ports", "nodeport-virtual-servers"]),
    ("When something is done",
     &["drain-timeout", "ipvs-min-sync-period", "ipvs-sync-period"],
     &["real-server-sync-period"]),
    ("This host",
     &["adopt-kube-proxy", "ipvs-strict-arp"],
     &["accept-in-foreign-chains", "conntrack-max-per-core", "conntrack-min", "conntrack-tcp-be-liberal",
       "conntrack-tcp-timeout-close-wait", "conntrack-tcp-timeout-established", "conntrack-udp-timeout",
       "conntrack-udp-timeout-stream", "ipvs-run-estimation", "ipvs-tcp-timeout", "ipvs-tcpfin-timeout",
       "ipvs-udp-timeout", "oom-score-adj", "state-dir"]),
    ("What is told",
     &["healthz-bind-address", "log-format", "metrics-bind-address", "v"],
     &["bind-address-hard-fail", "events", "healthz-port", "logging-format", "metrics-port",
       "service-metrics"]),
    ("Instead of running",
     &["once", "write-config-to"],
     &["cleanup", "init-only", "version"]),
];

/// Below this heading is what only kube-proxy has a use for.
const NO_MEANING: &str = "Taken from kube-proxy, without meaning here";

/// A flag of `run` with its heading, and in the short form or not. Others are left alone.
pub fn arranged(arg: Arg) -> Arg {
    let flag = arg.get_long().unwrap_or_default();
    for (heading, short, long) in GROUPS {
        if short.contains(&flag) {
            return arg.help_heading(heading);
        }
        if long.contains(&flag) {
            return arg.help_heading(heading).hide_short_help(true);
        }
    }
    if has_no_meaning(flag) {
        return arg.help_heading(NO_MEANING).hide_short_help(true);
    }
    arg
}

/// The same for commands that only look: what their answer does not hang on is in the
/// long form only.
pub fn arranged_to_look(arg: Arg) -> Arg {
    let arg = arranged(arg);
    let heading = arg.get_help_heading();
    let about_answers = heading.is_none_or(|one| [SOURCE, SERVING, NODE_PORTS].contains(&one));
    let shown = about_answers && !arg.is_hide_short_help_set();
    arg.hide_short_help(!shown)
}

fn has_no_meaning(flag: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.flag == flag && matches!(setting.class, Class::NoMeaning(_)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args;

    use super::super::RunArgs;
    use super::*;

    #[test]
    fn every_flag_of_run_is_below_one_heading() {
        let run = RunArgs::augment_args(clap::Command::new("run"));
        let flags: BTreeSet<_> = run.get_arguments().filter_map(Arg::get_long).collect();
        let meaning = flags.iter().filter(|flag| !has_no_meaning(flag));
        let mut grouped: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, short, long)| short.iter().chain(*long).copied())
            .collect();
        grouped.sort_unstable();
        assert_eq!(grouped, meaning.copied().collect::<Vec<_>>());
    }
}

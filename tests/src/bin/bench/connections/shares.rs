//! What of a question to an untracked Service is whose: our rules and chains are
//! taken away one after the other, and what is left is measured each time.

use anyhow::Result;
use kube_ipvs_tests::run_with_input;

use super::UNTRACKED;
use super::city::City;

const SERVICES: usize = 1_000;

/// What goes, and how.
const STEPS: [(&str, Away); 8] = [
    ("the rules of output", Away::Rules("output")),
    ("the rules of input", Away::Rules("input")),
    ("the rules of untracked-here", Away::Rules("untracked-here")),
    ("the rules of untracked but notrack", Away::Said(NOTRACK)),
    ("output, input, untracked-here", Away::Said(HOOKS)),
    ("the nat chains", Away::Said(NAT)),
    ("net.ipv4.vs.conntrack", Away::Tracking),
    (
        "untracked, and the kernel's hooks with it",
        Away::Said("flush ruleset\n"),
    ),
];

enum Away {
    Rules(&'static str),
    /// By the words of nft.
    Said(&'static str),
    Tracking,
}

const NOTRACK: &str = "flush chain ip kube-ipvs untracked
add rule ip kube-ipvs untracked notrack accept
";
const HOOKS: &str = "delete chain ip kube-ipvs output
delete chain ip kube-ipvs input
delete chain ip kube-ipvs untracked-here
";
const NAT: &str = "flush chain ip kube-ipvs prerouting
delete chain ip kube-ipvs prerouting
flush chain ip kube-ipvs output-nat
delete chain ip kube-ipvs output-nat
flush chain ip kube-ipvs postrouting
delete chain ip kube-ipvs postrouting
";

pub(crate) fn run() -> Result<bool> {
    let city = City::build(SERVICES, &["--ipvs-untracked-services=default/service-2"])?;
    let node = city.node();
    let nft = |words: &str| drop(node.run(|| run_with_input("nft", ["-f", "-"], words)));
    let mut left = city.measure_untracked()?;
    println!("{left:>9.0} instructions: {UNTRACKED}, {SERVICES} Services. Of them");
    for (what, away) in STEPS {
        match away {
            Away::Rules(chain) => nft(&format!("flush chain ip kube-ipvs {chain}\n")),
            Away::Said(words) => nft(words),
            Away::Tracking => node.sysctl("net/ipv4/vs/conntrack", "0"),
        }
        let now = city.measure_untracked()?;
        println!("{:>9.0} {what}", left - now);
        left = now;
    }
    println!("{left:>9.0} IPVS alone");
    city.leave();
    Ok(true)
}

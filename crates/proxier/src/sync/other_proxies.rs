//! What is told of other Service proxies on this node.

use std::collections::BTreeSet;

use super::others::Others;

/// Somebody took away what is ours.
const WIPED: &str = "all VIPs or virtual servers of kube-ipvs on this node were removed by somebody \
                     else, as `kube-proxy --cleanup` does and a kube-proxy that starts; they are \
                     made anew: see that no other Service proxy runs here";

/// What was told of them.
#[derive(Debug, Default)]
pub(super) struct OtherProxies {
    /// Signs of one that came.
    signs: BTreeSet<String>,
}

impl OtherProxies {
    /// What those in charge of the Node should know, each time it happens.
    pub(super) fn news(&mut self, others: &mut Others) -> Vec<String> {
        let came = others.came();
        let mut news = Vec::new();
        if others.take_wiped() {
            news.push(WIPED.to_owned());
        }
        if !came.is_subset(&self.signs) {
            news.push(beside_us(&came));
        }
        self.signs = came;
        news
    }
}

/// What holds as long as there is one, or what one left.
pub(super) fn warning(others: &Others) -> Option<String> {
    let (came, left) = (others.came(), others.left());
    match (came.is_empty(), left.is_empty()) {
        (false, _) => Some(beside_us(&came)),
        (true, false) => Some(format!(
            "a kube-proxy was here before, or is here: {}; where none runs any more, \
             --adopt-kube-proxy removes that",
            words(&left)
        )),
        (true, true) => None,
    }
}

fn beside_us(signs: &BTreeSet<String>) -> String {
    format!(
        "another Service proxy works on this node beside kube-ipvs: {} appeared; two proxies undo \
         each other's work: stop it here (of kube-proxy: by the node selector of its DaemonSet), \
         then --adopt-kube-proxy removes what it left",
        words(signs)
    )
}

fn words(signs: &BTreeSet<String>) -> String {
    let all: Vec<&str> = signs.iter().map(String::as_str).collect();
    all.join(", ")
}

//! Answers of nodes, side by side.

use std::collections::BTreeMap;
use std::process::Output;

use serde::Serialize;
use serde_json::Value;

/// What a node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) node: String,
    /// Exit code; 1 where it could not be asked.
    pub(super) code: u8,
    /// Standard output, then standard error.
    pub(super) text: [String; 2],
}

impl Answer {
    pub(super) fn of(node: &str, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // By a signal it has none.
        let code = output.status.code().and_then(|code| code.try_into().ok());
        Self {
            node: node.to_owned(),
            code: code.unwrap_or(1),
            text: [text(&output.stdout), text(&output.stderr)],
        }
    }

    pub(super) fn failed(node: &str, why: String) -> Self {
        Self {
            node: node.to_owned(),
            code: 1,
            text: [String::new(), why],
        }
    }

    fn said(&self) -> impl Iterator<Item = &str> {
        self.text.iter().flat_map(|text| text.lines())
    }
}

/// `-o json` of many nodes.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Serialize)]
struct Node<'a> {
    node: &'a str,
    exit_code: u8,
    /// What it printed; null when that is no JSON.
    answer: Option<Value>,
    /// What it complained of; null for nothing.
    error: Option<&'a str>,
}

pub(super) fn document(answers: &[Answer]) -> Document<'_> {
    let node = |answer: &'_ Answer| -> Option<Value> { serde_json::from_str(&answer.text[0]).ok() };
    let nodes = answers.iter().map(|one| Node {
        node: &one.node,
        exit_code: one.code,
        answer: node(one),
        error: Some(one.text[1].trim()).filter(|text| !text.is_empty()),
    });
    Document {
        nodes: nodes.collect(),
    }
}

/// Each answer once, with the nodes that gave it: that of most nodes first, of the
/// others what differs from it. Where answers are of the moment, `compare` is false
/// and each is printed whole.
pub(super) fn side_by_side(answers: &[Answer], compare: bool) -> String {
    let mut groups: Vec<(&Answer, Vec<&str>)> = Vec::new();
    for answer in answers {
        let same = |(first, _): &&mut (&Answer, _)| {
            compare && (first.code, &first.text) == (answer.code, &answer.text)
        };
        match groups.iter_mut().find(same) {
            Some((_, nodes)) => nodes.push(&answer.node),
            None => groups.push((answer, vec![&answer.node])),
        }
    }
    // Stable: of as many nodes the first one counts.
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let mut text = String::new();
    let most = groups.first().map(|(answer, _)| *answer);
    for (answer, nodes) in &groups {
        let nodes = nodes.join(", ");
        match most.filter(|most| compare && most != answer) {
            None => {
                text += &format!("{nodes}:\n");
                answer
                    .said()
                    .for_each(|line| text += &format!("  {line}\n"));
            }
            Some(most) => {
                text += &format!("{nodes} differs:\n");
                differences(most, answer).for_each(|line| text += &format!("  {line}\n"));
            }
        }
    }
    text
}

/// Lines that one has and the other has not, and the exit code.
fn differences<'a>(most: &'a Answer, other: &'a Answer) -> impl Iterator<Item = String> + 'a {
    let code = (most.code != other.code)
        .then(|| format!("exit code {} instead of {}", other.code, most.code));
    let missing = lacking(most, other).map(|line| format!("- {line}"));
    let new = lacking(other, most).map(|line| format!("+ {line}"));
    code.into_iter().chain(missing).chain(new)
}

/// Lines of one that the other has not, or not as often.
fn lacking<'a>(one: &'a Answer, other: &'a Answer) -> impl Iterator<Item = &'a str> {
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    for line in other.said() {
        *there.entry(line).or_default() += 1;
    }
    one.said().filter(move |line| match there.get_mut(line) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node: &str, code: u8, out: &str, error: &str) -> Answer {
        Answer {
            node: node.to_owned(),
            code,
            text: [out.to_owned(), error.to_owned()],
        }
    }

    #[test]
    fn what_most_nodes_say_is_said_once_and_of_others_what_differs() {
        let answers = [
            answer("node-1", 0, "served\nby a\nby a\n", ""),
            answer("node-2", 2, "served\nby a\nnobody\n", ""),
            answer("node-3", 0, "served\nby a\nby a\n", ""),
            Answer::failed("node-4", "its pod is Pending\n".to_owned()),
        ];
        insta::assert_snapshot!(side_by_side(&answers, true), @r"
        node-1, node-3:
          served
          by a
          by a
        node-2 differs:
          exit code 2 instead of 0
          - by a
          + nobody
        node-4 differs:
          exit code 1 instead of 0
          - served
          - by a
          - by a
          + its pod is Pending
        ");
    }

    #[test]
    fn rates_are_not_compared() {
        let answers = [answer("a", 0, "1\n", ""), answer("b", 0, "1\n", "")];
        assert_eq!(side_by_side(&answers, false), "a:\n  1\nb:\n  1\n");
    }

    #[test]
    fn json_of_all_nodes_is_one_document() {
        let answers = [
            answer("a", 0, "{\"x\": 1}\n", ""),
            answer("b", 1, "", "kube-ipvs: no\n"),
        ];
        let json = serde_json::to_value(document(&answers)).unwrap();
        assert_eq!(json["nodes"][0]["answer"]["x"], 1);
        assert_eq!(json["nodes"][0]["error"], Value::Null);
        assert_eq!(json["nodes"][1]["answer"], Value::Null);
        assert_eq!(json["nodes"][1]["error"], "kube-ipvs: no");
        assert_eq!(json["nodes"][1]["exit_code"], 1);
    }
}

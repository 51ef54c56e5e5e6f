//! Whose word is whose: the plugin's own, and those of the tool that it asks for.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, CommandFactory};

use super::PluginArgs;

/// The words in an order in which clap reads each as whose it is. Behind the tool all is
/// the tool's, `inspect -ln` too, but for the plugin's flags with a long name, which no
/// tool has.
pub(super) fn arranged(arguments: &[OsString]) -> Vec<OsString> {
    let command = PluginArgs::command();
    let flags: Vec<&Arg> = command.get_arguments().collect();
    let mut words = arguments.iter().cloned();
    let mut own: Vec<OsString> = words.next().into_iter().collect();
    let mut of_tool: Vec<OsString> = Vec::new();
    while let Some(word) = words.next() {
        let in_front = of_tool.is_empty();
        if word == "--" {
            // Who writes it has said whose the rest is.
            let to = if in_front { &mut own } else { &mut of_tool };
            to.push(word);
            to.extend(words);
            break;
        }
        let flag = flags.iter().find(|flag| is(flag, &word, in_front));
        let is_flag = word.to_string_lossy().starts_with('-');
        if flag.is_none() && !(in_front && is_flag) {
            of_tool.push(word);
            continue;
        }
        let takes_next = flag.is_some_and(|flag| takes_next(flag, &word));
        own.push(word);
        own.extend(takes_next.then(|| words.next()).flatten());
    }
    let mut of_tool = of_tool.into_iter();
    if let Some(tool) = of_tool.next() {
        own.extend([tool, "--".into()]);
        own.extend(of_tool);
    }
    own
}

/// Whether a word is this flag of the plugin, with its value or without.
fn is(flag: &Arg, word: &OsStr, short_too: bool) -> bool {
    let word = word.to_string_lossy();
    let long = flag.get_long().is_some_and(|long| {
        let rest = word
            .strip_prefix("--")
            .and_then(|word| word.strip_prefix(long));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let short = flag.get_short().filter(|_| short_too);
    long || short.is_some_and(|short| *word == *format!("-{short}"))
}

/// Whether its value is the next word.
fn takes_next(flag: &Arg, word: &OsStr) -> bool {
    let takes = matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    takes && !word.to_string_lossy().contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let words = format!("kubectl-ipvs {line}");
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let words = super::arranged(&words).into_iter().skip(1);
        let words: Vec<_> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn what_stands_behind_a_tool_is_the_tools_but_for_long_flags_of_the_plugin() {
        for (line, is) in [
            ("status", "status --"),
            (
                "-n net --node a --node=b inspect -ln",
                "-n net --node a --node=b inspect -- -ln",
            ),
            ("inspect -n -l", "inspect -- -n -l"),
            ("explain web --node a", "--node a explain -- web"),
            (
                "explain --context=c web -o json",
                "--context=c explain -- web -o json",
            ),
            ("inspect --pods -L", "inspect -- --pods -L"),
            (
                "top --filter web --selector app=x",
                "--selector app=x top -- --filter web",
            ),
            ("explain -- --node", "explain -- -- --node"),
            ("-- explain web", "-- explain web"),
            ("--bogus status", "--bogus status --"),
            ("-lapp=x status", "-lapp=x status --"),
            ("--node", "--node"),
            ("", ""),
        ] {
            assert_eq!(arranged(line), is, "{line}");
        }
    }
}

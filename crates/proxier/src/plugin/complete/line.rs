//! What a command line means as far as it is written.

use clap::{Arg, ArgAction, Command, CommandFactory, Id, ValueEnum};

use super::Candidate;
use super::names::{Cluster, Kind};
use crate::cli::{self, Cli};
use crate::config;
use crate::plugin::{PluginArgs, Tool};

/// A command line, word by word.
pub(super) struct Line {
    /// The plugin, then the tool that is named.
    command: Command,
    tool: Option<Tool>,
    /// The plugin, once a tool is named: its long flags may follow.
    plugin: Option<Command>,
    /// A word in the place of the tool is none.
    is_lost: bool,
    /// `--` has passed: no flag follows.
    values_only: bool,
    /// Words that belong to no flag.
    positionals: usize,
    /// The flag whose value is next.
    awaits: Option<Id>,
    /// Flags that have passed, each with its value.
    given: Vec<(Id, String)>,
}

/// What may follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    These(Vec<Candidate>),
    /// Names that only the cluster knows, and as much as is written of one.
    Names {
        kind: Kind,
        written: String,
    },
}

impl Offer {
    const NOTHING: Self = Self::These(Vec::new());
}

/// A word that begins with a hyphen.
enum Flag<'a> {
    /// `--output`, `-o` and, whatever has a value elsewhere, `-cn`.
    Whole(&'a Arg),
    /// `--output=json`, `-o=json`, `-ojson`: the flag, and where its value begins.
    WithValue(&'a Arg, usize),
}

impl Line {
    pub(super) fn new() -> Self {
        let mut command = PluginArgs::command();
        command.build();
        Self {
            command,
            tool: None,
            plugin: None,
            is_lost: false,
            values_only: false,
            positionals: 0,
            awaits: None,
            given: Vec::new(),
        }
    }

    /// A word that is written and followed by others.
    pub(super) fn pass(&mut self, word: &str) {
        let word = &*config::normalise(word.into());
        let word = &*word.to_string_lossy();
        if let Some(flag) = self.awaits.take() {
            self.given.push((flag, word.to_owned()));
        } else if self.is_flag(word) {
            self.pass_flag(word);
        } else if word == "--" && !self.values_only {
            self.values_only = true;
        } else if self.tool.is_some() {
            self.positionals += 1;
        } else {
            self.enter(word);
        }
    }

    fn is_flag(&self, word: &str) -> bool {
        !self.values_only && word.starts_with('-') && !matches!(word, "-" | "--")
    }

    fn pass_flag(&mut self, word: &str) {
        let (flag, value) = match self.read(word) {
            Some(Flag::Whole(flag)) => (flag, None),
            Some(Flag::WithValue(flag, at)) => (flag, word.get(at..)),
            // What nobody knows takes no value.
            None => return,
        };
        let id = flag.get_id().clone();
        match value {
            None if flag.get_action().takes_values() => self.awaits = Some(id),
            value => self.given.push((id, value.unwrap_or_default().to_owned())),
        }
    }

    /// The tool is named: what follows is its own.
    fn enter(&mut self, word: &str) {
        let mut program = Cli::command();
        program.build();
        let tool = Tool::from_str(word, false).ok();
        match program.find_subcommand(word).filter(|_| tool.is_some()) {
            Some(command) => {
                let plugin = std::mem::replace(&mut self.command, command.clone());
                self.plugin = Some(plugin);
                self.tool = tool;
                self.values_only = false;
            }
            None => self.is_lost = true,
        }
    }

    /// What can stand in the place of the last word.
    pub(super) fn offer(&self, last: &str) -> Offer {
        if self.is_lost {
            return Offer::NOTHING;
        }
        if let Some(id) = &self.awaits {
            let flag = self.flags().find(|flag| flag.get_id() == id);
            return flag.map_or(Offer::NOTHING, |flag| self.values(flag, last, ""));
        }
        if self.values_only || !last.starts_with('-') {
            return self.positional(last);
        }
        match self.read(last) {
            // Shells put what stands before a `=` there themselves.
            Some(Flag::WithValue(flag, at)) if last[..at].ends_with('=') => {
                self.values(flag, &last[at..], "")
            }
            Some(Flag::WithValue(flag, at)) => self.values(flag, &last[at..], &last[..at]),
            _ => Offer::These(self.flags_like(last)),
        }
    }

    /// What the cluster is asked with.
    pub(super) fn cluster(&self) -> Cluster {
        let plugin = PluginArgs::command();
        let of = |name: &str| {
            let given = self.given.iter().rfind(|(id, _)| id == name);
            let flag = plugin.get_arguments().find(|flag| flag.get_id() == name);
            let default = flag.and_then(|flag| flag.get_default_values().first());
            let default = default.map(|value| value.to_string_lossy().into_owned());
            given.map(|(_, value)| value.clone()).or(default)
        };
        Cluster {
            context: of("context"),
            namespace: of("namespace").unwrap_or_default(),
            selector: of("selector").unwrap_or_default(),
        }
    }

    fn flags(&self) -> impl Iterator<Item = &Arg> {
        flags_of(&self.command).chain(self.flags_of_plugin())
    }

    /// Those of the plugin that may follow the tool, by their long names.
    fn flags_of_plugin(&self) -> impl Iterator<Item = &Arg> {
        let flags = self.plugin.iter().flat_map(flags_of);
        flags.filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version"))
    }

    /// What a word with a hyphen in front is; none for one that no flag reads.
    fn read(&self, word: &str) -> Option<Flag<'_>> {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let flag = self.flags().find(|flag| flag.get_long() == Some(name))?;
            return Some(match value {
                Some(value) => Flag::WithValue(flag, word.len() - value.len()),
                None => Flag::Whole(flag),
            });
        }
        let mut last = None;
        for (at, letter) in word.char_indices().skip(1) {
            let mut flags = flags_of(&self.command);
            let flag = flags.find(|flag| flag.get_short() == Some(letter))?;
            let rest = at + letter.len_utf8();
            if flag.get_action().takes_values() && rest < word.len() {
                let sign = usize::from(word[rest..].starts_with('='));
                return Some(Flag::WithValue(flag, rest + sign));
            }
            last = Some(flag);
        }
        last.map(Flag::Whole)
    }

    fn positional(&self, written: &str) -> Offer {
        match self.tool {
            None => Offer::These(values_of::<Tool>(written)),
            Some(Tool::Explain) if self.positionals == 0 => Offer::Names {
                kind: Kind::Service,
                written: written.to_owned(),
            },
            Some(_) => Offer::NOTHING,
        }
    }

    /// Values of a flag, behind what of the word stands before them.
    fn values(&self, flag: &Arg, written: &str, before: &str) -> Offer {
        let kind = match flag.get_id().as_str() {
            "node" => Some(Kind::Node),
            "pod" => Some(Kind::Pod),
            "namespace" => Some(Kind::Namespace),
            "context" => Some(Kind::Context),
            _ => None,
        };
        if let Some(kind) = kind.filter(|_| before.is_empty()) {
            let written = written.to_owned();
            return Offer::Names { kind, written };
        }
        let values = flag.get_possible_values().into_iter();
        let values = values.filter(|value| !value.is_hide_set());
        let values = values.filter(|value| value.get_name().starts_with(written));
        let candidates = values.map(|value| Candidate {
            word: format!("{before}{}", value.get_name()),
            about: value.get_help().map(first_line).unwrap_or_default(),
        });
        Offer::These(candidates.collect())
    }

    /// Flags that begin so, and make sense beside those that are given.
    fn flags_like(&self, written: &str) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for flag in self.flags().filter(|flag| self.may_follow(flag)) {
            let long = flag.get_long().map(|long| format!("--{long}"));
            let short = flag.get_short().filter(|_| self.is_own(flag));
            let short = short.map(|short| format!("-{short}"));
            let about = flag.get_help().map(first_line).unwrap_or_default();
            for word in long.into_iter().chain(short) {
                if word.starts_with(written) {
                    let about = about.clone();
                    candidates.push(Candidate { word, about });
                }
            }
        }
        candidates
    }

    fn may_follow(&self, flag: &Arg) -> bool {
        let id = flag.get_id().as_str();
        let refused = cli::CHANGING.contains(&id) || cli::FOLLOWING.contains(&id);
        let again = matches!(flag.get_action(), ArgAction::Append | ArgAction::Count);
        let is_free = |given: &Arg| {
            (again || given.get_id() != flag.get_id())
                && !self.excludes(given, flag)
                && !self.excludes(flag, given)
        };
        let given = |arg: &&Arg| self.given.iter().any(|(id, _)| arg.get_id() == id);
        !refused && !flag.is_hide_set() && self.flags().filter(given).all(is_free)
    }

    /// Whether a flag is that of the tool, where one is named.
    fn is_own(&self, flag: &Arg) -> bool {
        flags_of(&self.command).any(|own| own.get_id() == flag.get_id())
    }

    fn excludes(&self, one: &Arg, other: &Arg) -> bool {
        let command = match &self.plugin {
            Some(plugin) if !self.is_own(one) => plugin,
            _ => &self.command,
        };
        let excluded = command.get_arg_conflicts_with(one);
        excluded.iter().any(|arg| arg.get_id() == other.get_id())
    }
}

fn flags_of(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional())
}

/// Values of an enumeration that begin so.
fn values_of<T: ValueEnum>(written: &str) -> Vec<Candidate> {
    let values = T::value_variants().iter();
    let values = values.filter_map(ValueEnum::to_possible_value);
    let values = values.filter(|value| value.get_name().starts_with(written));
    let candidates = values.map(|value| Candidate {
        word: value.get_name().to_owned(),
        about: value.get_help().map(first_line).unwrap_or_default(),
    });
    candidates.collect()
}

fn first_line(text: &clap::builder::StyledStr) -> String {
    let text = text.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

//! What we write is intact when it is read, and what a foreign hand does to it
//! shows.

use netlink_exchange::{Content, Request, Writer, nfnetlink};

use super::example::{config_v4, elements as texts};
use super::{Capture, elements, v4, v6, written};
use crate::observe::{Observed, ReadSet};
use crate::phrase::{accept, drop};
use crate::wire::{Command, Item, Key, Kind, ListedChain, ListedRule, ListedSet, Verb};
use crate::{Config, Elements, Set, render_change, render_table};

/// A table as it is listed.
#[derive(Clone, Default)]
struct Listed {
    flags: u32,
    chains: Vec<ListedChain>,
    rules: Vec<ListedRule>,
    sets: Vec<ReadSet>,
}

impl Listed {
    /// As the kernel lists what these commands make, elements from the last on.
    fn made(config: &Config, elements: &Elements) -> Self {
        let mut listed = Self::default();
        let mut numbers = Vec::new();
        for command in render_table(config, elements).expect("valid").iter() {
            let payload = written(command);
            let content = Content {
                message_type: command.message_type(),
                payload: &payload,
            };
            listed.take(command, content, &mut numbers);
        }
        for (_, items) in &mut listed.sets {
            items.reverse();
        }
        listed
    }

    /// `numbers` are those by which the transaction knows sets, in their order.
    fn take(&mut self, command: &Command, content: Content<'_>, numbers: &mut Vec<u32>) {
        match command {
            Command::AddChain { .. } => {
                self.chains
                    .push(ListedChain::read(content).expect("a chain"));
            }
            Command::AddSet { number, .. } => {
                let mut set = ListedSet::read(content).expect("a set");
                set.name = set.name.replace("%d", &number.to_string());
                numbers.push(*number);
                self.sets.push((set, Vec::new()));
            }
            Command::Elements { set, number, .. } => {
                let at = match number {
                    Some(number) => numbers.iter().position(|known| known == number),
                    None => self.sets.iter().position(|(known, _)| known.name == *set),
                };
                let (_, items) = &mut self.sets[at.expect("a set that was made")];
                elements(content, |item| items.push(item)).expect("elements");
            }
            Command::AddRule { among, .. } => {
                let mut rule = ListedRule::read(content).expect("a rule");
                for expression in &mut rule.expressions {
                    if let crate::wire::Expression::Lookup(lookup) = expression {
                        lookup.set = lookup.set.replace("%d", &among.to_string());
                    }
                }
                self.rules.push(rule);
            }
            _ => {}
        }
    }

    fn is_intact(&self, config: &Config) -> bool {
        let Self {
            flags,
            chains,
            rules,
            sets,
        } = self.clone();
        let observed = Observed::new(config.family, flags, chains, rules, &sets);
        observed.is_intact(config).expect("a configuration")
    }

    fn set(&mut self, name: &str) -> &mut ReadSet {
        let mut sets = self.sets.iter_mut();
        sets.find(|(set, _)| set.name == name).expect("a set")
    }

    /// The first set that belongs to a rule.
    fn constant(&mut self) -> &mut Vec<Option<Item>> {
        let mut sets = self.sets.iter_mut();
        let found = sets.find(|(set, _)| set.is_anonymous());
        &mut found.expect("a rule with a set").1
    }

    fn chain(&mut self, name: &str) -> &mut ListedChain {
        let mut chains = self.chains.iter_mut();
        chains.find(|chain| chain.name == name).expect("a chain")
    }
}

/// A rule that none of our chains has there.
fn odd_rule(chain: &str) -> ListedRule {
    ListedRule {
        chain: chain.to_owned(),
        expressions: accept(),
        ..ListedRule::default()
    }
}

type Hand = (&'static str, fn(&mut Listed));

const HANDS: &[Hand] = &[
    ("the table sleeps", |table| table.flags = 1),
    ("a policy drops", |table| {
        table.chain("input").policy = Some(0)
    }),
    ("a chain hangs later", |table| {
        let at = table.chain("input").at.as_mut().expect("a hook");
        at.priority += 1;
    }),
    ("a chain hangs nowhere", |table| {
        let input = table.chain("input");
        (input.at, input.policy) = (None, None);
    }),
    ("a chain more", |table| {
        table.chains.push(ListedChain {
            name: "mine".to_owned(),
            ..ListedChain::default()
        });
    }),
    ("a chain less", |table| {
        table.chains.retain(|chain| chain.name != "guard");
    }),
    ("a rule more at the end", |table| {
        table.rules.push(odd_rule("guard"))
    }),
    ("a rule in the chain of the name", |table| {
        let named = table.chains[0].name.clone();
        table.rules.push(odd_rule(&named));
    }),
    ("a rule less at the end", |table| {
        let last = table.rules.iter().rposition(|rule| rule.chain == "guard");
        table.rules.remove(last.expect("a rule"));
    }),
    ("another rule", |table| {
        let first = table.rules.iter_mut().find(|rule| rule.chain == "guard");
        first.expect("a rule").expressions = drop();
    }),
    ("a rule's set has an element less", |table| {
        table.constant().pop();
    }),
    ("a rule's set has an element more", |table| {
        let more = Item::new(Key::new(&[5]).expect("short"));
        table.constant().push(Some(more));
    }),
    ("a rule's set has an odd element", |table| {
        table.constant().push(None)
    }),
    ("a set more", |table| {
        let (mut mine, _) = table.sets[0].clone();
        mine.name = "mine".to_owned();
        table.sets.push((mine, Vec::new()));
    }),
    ("a set less", |table| {
        table.sets.retain(|(set, _)| set.name != "hairpin");
    }),
    ("a set of another type", |table| {
        table.set("vips").0.key_type += 1
    }),
    ("a map in a set's place", |table| {
        table.set("vips").0.flags ^= 8
    }),
    ("an odd element", |table| table.set("vips").1.push(None)),
    ("marks that no map has", |table| {
        table.set("mark-values").1.clear()
    }),
];

#[test]
fn what_we_write_is_intact_and_what_others_do_to_it_is_not() {
    for Capture {
        config, elements, ..
    } in [v4(), v6()]
    {
        let table = Listed::made(&config, &elements);
        assert!(table.is_intact(&config), "untouched");
        for (what, hand) in HANDS {
            let mut table = table.clone();
            hand(&mut table);
            assert!(!table.is_intact(&config), "{what}");
        }
    }
}

/// Where one ends the next begins.
#[test]
fn neighbouring_networks_are_read_as_they_are() {
    let networks = [
        "10.97.0.0/16",
        "10.98.0.0/16",
        "10.99.0.0/16",
        "255.0.0.0/8",
    ];
    let made = texts(&[(Set::ServiceCidrs, &networks)]);
    let config = config_v4();

    let table = Listed::made(&config, &made);

    let observed = Observed::new(config.family, 0, table.chains, table.rules, &table.sets);
    assert_eq!(observed.strange, Vec::<String>::new());
    assert_eq!(observed.elements, made);
}

/// A change of a map's value, or of a network to a wider one, would be refused in
/// another order.
#[test]
fn what_goes_goes_before_what_comes() {
    let removed = texts(&[(Set::ServiceCidrs, &["10.96.0.0/16"])]);
    let added = texts(&[(Set::ServiceCidrs, &["10.96.0.0/12"])]);
    let change = crate::TableChange {
        removed,
        added,
        ..Default::default()
    };
    let commands = render_change(&config_v4(), &change, |_| true).expect("valid");
    let verbs: Vec<Verb> = commands
        .iter()
        .map(|command| match command {
            Command::Elements { verb, .. } => *verb,
            other => panic!("{other}"),
        })
        .collect();
    let comes = verbs.iter().position(|verb| *verb == Verb::Add);
    let (gone, come) = verbs.split_at(comes.expect("one comes"));
    assert!(!gone.is_empty() && gone.iter().all(|verb| *verb == Verb::Delete));
    assert!(come.iter().all(|verb| *verb == Verb::Add));
}

/// An element of a list, with these bytes for a key.
fn told(key: &[u8], more: impl FnOnce(&mut Writer<'_>)) -> Option<Item> {
    let mut payload = Vec::new();
    let mut out = Writer::new(&mut payload);
    out.header(&nfnetlink::header(2, 0));
    out.nest(3, |out| {
        out.nest(1, |out| {
            out.nest(1, |out| out.bytes(1, key));
            more(out);
        });
    });
    let content = Content {
        message_type: Kind::NewSetElem.message_type(),
        payload: &payload,
    };
    let mut read = Vec::new();
    elements(content, |item| read.push(item)).expect("a list");
    let [item] = read[..] else {
        panic!("{read:?}");
    };
    item
}

#[test]
fn an_element_that_says_more_than_ours_is_none_of_ours() {
    const CATCH_ALL: u32 = 2;
    let long = [0; 44];
    let key = [10, 96, 0, 10];
    assert_eq!(told(&key, |_| ()), Key::new(&key).map(Item::new));
    assert_eq!(told(&long, |_| ()), None, "a long key");
    assert_eq!(told(&key, |out| out.be32(3, CATCH_ALL)), None);
    let end = told(&key, |out| out.nest(10, |out| out.bytes(1, &long)));
    assert_eq!(end, None, "a long end of an interval");
    let data = told(&key, |out| out.nest(2, |out| out.bytes(1, &[1, 2, 3])));
    assert_eq!(data, None, "no mark and no verdict");
    let elsewhere = told(&key, |out| {
        out.nest(2, |out| {
            out.nest(2, |out| {
                out.be32(1, (-4i32).cast_unsigned());
                out.name(2, "mine");
            });
        });
    });
    assert_eq!(elsewhere, None, "a chain that is no class");
}

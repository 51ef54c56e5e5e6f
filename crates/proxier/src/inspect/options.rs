//! The options of a rule, by short and long name.

use std::iter::Peekable;

use anyhow::{Context, ensure};

/// What follows an option.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    None,
    Needed,
    Optional,
}

const SERVICE: &str = "AEDaed";
const SETTINGS: &str = "AE";
const SERVER: &str = "aed";
const ROUTE: &str = "ae";

/// An option of a rule, by its place in [`OPTIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Ipv6,
    Scheduler,
    Persistent,
    Netmask,
    Pe,
    Ops,
    SchedFlags,
    RealServer,
    Masquerading,
    Ipip,
    Gatewaying,
    Weight,
    UThreshold,
    LThreshold,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Name {
    /// `--tcp-service`.
    pub(super) fn long(self) -> &'static str {
        OPTIONS[self as usize].long
    }
}

/// What an option is called, what follows it, and the commands that it goes with.
struct Known {
    name: Name,
    /// The letter behind `-`.
    short: Option<u8>,
    long: &'static str,
    value: Value,
    commands: &'static str,
}

const fn known(
    name: Name,
    short: Option<u8>,
    long: &'static str,
    value: Value,
    commands: &'static str,
) -> Known {
    Known {
        name,
        short,
        long,
        value,
        commands,
    }
}

const OPTIONS: [Known; 23] = [
    known(
        Name::TcpService,
        Some(b't'),
        "--tcp-service",
        Value::Needed,
        SERVICE,
    ),
    known(
        Name::UdpService,
        Some(b'u'),
        "--udp-service",
        Value::Needed,
        SERVICE,
    ),
    known(
        Name::SctpService,
        None,
        "--sctp-service",
        Value::Needed,
        SERVICE,
    ),
    known(
        Name::FwmarkService,
        Some(b'f'),
        "--fwmark-service",
        Value::Needed,
        SERVICE,
    ),
    known(Name::Ipv6, Some(b'6'), "--ipv6", Value::None, SERVICE),
    known(
        Name::Scheduler,
        Some(b's'),
        "--scheduler",
        Value::Needed,
        SETTINGS,
    ),
    known(
        Name::Persistent,
        Some(b'p'),
        "--persistent",
        Value::Optional,
        SETTINGS,
    ),
    known(
        Name::Netmask,
        Some(b'M'),
        "--netmask",
        Value::Needed,
        SETTINGS,
    ),
    known(Name::Pe, None, "--pe", Value::Needed, SETTINGS),
    known(Name::Ops, Some(b'o'), "--ops", Value::None, SETTINGS),
    // ipvsadm -S writes no names for a flag that has none.
    known(
        Name::SchedFlags,
        Some(b'b'),
        "--sched-flags",
        Value::Optional,
        SETTINGS,
    ),
    known(
        Name::RealServer,
        Some(b'r'),
        "--real-server",
        Value::Needed,
        SERVER,
    ),
    known(
        Name::Masquerading,
        Some(b'm'),
        "--masquerading",
        Value::None,
        ROUTE,
    ),
    known(Name::Ipip, Some(b'i'), "--ipip", Value::None, ROUTE),
    known(
        Name::Gatewaying,
        Some(b'g'),
        "--gatewaying",
        Value::None,
        ROUTE,
    ),
    known(Name::Weight, Some(b'w'), "--weight", Value::Needed, ROUTE),
    known(
        Name::UThreshold,
        Some(b'x'),
        "--u-threshold",
        Value::Needed,
        ROUTE,
    ),
    known(
        Name::LThreshold,
        Some(b'y'),
        "--l-threshold",
        Value::Needed,
        ROUTE,
    ),
    known(Name::TunType, None, "--tun-type", Value::Needed, ROUTE),
    known(Name::TunPort, None, "--tun-port", Value::Needed, ROUTE),
    known(Name::TunNocsum, None, "--tun-nocsum", Value::None, ROUTE),
    known(Name::TunCsum, None, "--tun-csum", Value::None, ROUTE),
    known(Name::TunRemcsum, None, "--tun-remcsum", Value::None, ROUTE),
];

/// Rules come by the hundred thousand: a word is held against letters where it is one.
fn option(word: &str) -> Option<&'static Known> {
    match word.as_bytes() {
        [b'-', letter] => OPTIONS.iter().find(|known| known.short == Some(*letter)),
        _ => OPTIONS.iter().find(|known| known.long == word),
    }
}

/// The values of a line's options, by [`Name`]; empty where none is said.
pub(super) struct Options<'a>([Option<&'a str>; OPTIONS.len()]);

impl<'a> Options<'a> {
    /// What was said behind it, or that nothing was.
    pub(super) fn get(&self, name: Name) -> Option<&'a str> {
        self.0[name as usize]
    }

    /// The long names of those that are said, in the order of [`OPTIONS`].
    pub(super) fn said(&self, which: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
        let said = OPTIONS
            .iter()
            .zip(&self.0)
            .filter(|(_, value)| value.is_some());
        said.map(|(known, _)| known.long)
            .filter(move |long| which(long))
    }
}

/// Reads what follows a command.
///
/// # Errors
/// An option that is none, does not go with the command, lacks its value, or is
/// said twice.
pub(super) fn options<'a>(
    words: &mut Peekable<impl Iterator<Item = &'a str>>,
    command: char,
) -> anyhow::Result<Options<'a>> {
    let mut options = Options([None; OPTIONS.len()]);
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let known = option(name).with_context(|| format!("{word:?} is no option of a rule"))?;
        ensure!(
            known.commands.contains(command),
            "{word:?} does not go with -{command}"
        );
        let value = match known.value {
            Value::None => None,
            Value::Needed => Some(
                joined
                    .or_else(|| words.next())
                    .with_context(|| format!("{word:?} needs a value"))?,
            ),
            Value::Optional => joined.or_else(|| words.next_if(|next| !next.starts_with('-'))),
        };
        let before = options.0[known.name as usize].replace(value.unwrap_or_default());
        ensure!(before.is_none(), "{word:?} is said twice");
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_stands_at_its_own_place() {
        for (place, known) in OPTIONS.iter().enumerate() {
            assert_eq!(known.name as usize, place, "{}", known.long);
            assert_eq!(option(known.long).map(|found| found.name), Some(known.name));
            let short = known.short.map(|letter| format!("-{}", char::from(letter)));
            let found = short.map(|short| option(&short).map(|found| found.name));
            assert!(found.is_none_or(|found| found == Some(known.name)));
        }
        assert!(option("-").is_none());
        assert!(option("").is_none());
    }
}

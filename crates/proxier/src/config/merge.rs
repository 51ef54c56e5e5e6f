//! Flags and file become one configuration, by kube-proxy's precedence: with a
//! file every flag gives way to it, but for the node's name and logging.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::boolean;
use super::decode::decode;
use super::file::{KubeProxyConfiguration, with_port};
use super::flags::RunArgs;
use super::problem::Collector;
use super::table::{Class, Kind, SETTINGS, Setting};

/// Configuration with all defaults, and what there is to say about it.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) configuration: KubeProxyConfiguration,
    pub(super) warnings: Vec<String>,
}

/// Merges the flags with a file, if there is one: its path and text.
pub(super) fn merge(
    args: &RunArgs,
    file: Option<(&Path, &str)>,
    collector: &mut Collector,
) -> Option<Merged> {
    let given = given(args);
    match file {
        Some((path, text)) => with_file(&given, path, text, collector),
        None => Some(without_file(args, &given, collector)),
    }
}

/// A flag that was given, and its value in JSON.
type Given = Vec<(&'static Setting, Value)>;

/// The flags that were given, in the order of the table.
fn given(args: &RunArgs) -> Given {
    let values = match serde_json::to_value(args) {
        Ok(Value::Object(values)) => values,
        _ => Map::new(),
    };
    let find = |setting: &'static Setting| {
        let value = values.get(setting.flag)?;
        let absent = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        (!absent).then(|| (setting, value.clone()))
    };
    SETTINGS
        .iter()
        .filter(|x| !x.flag.is_empty())
        .filter_map(find)
        .collect()
}

/// Every flag by name, with the value it was given or its default.
pub(super) fn shown_flags(args: &RunArgs) -> Vec<(&'static str, String)> {
    let given = given(args);
    let shown = |setting: &Setting| {
        let value = given.iter().find(|(x, _)| x.flag == setting.flag);
        let value = value.map_or_else(|| setting.default.to_owned(), |(_, value)| text(value));
        (setting.flag, value)
    };
    let flags = SETTINGS.iter().filter(|x| !x.flag.is_empty());
    let mut flags: Vec<_> = flags.map(shown).collect();
    flags.sort_unstable();
    flags
}

/// As it is written on the command line.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn without_file(args: &RunArgs, given: &Given, collector: &mut Collector) -> Merged {
    let mut configuration = KubeProxyConfiguration {
        // Its family decides the other addresses' defaults.
        bind_address: args.bind_address.clone().unwrap_or_default(),
        ..KubeProxyConfiguration::default()
    };
    configuration.fill_defaults();
    configuration.ipvs.min_sync_period = KubeProxyConfiguration::of_no_flags().ipvs.min_sync_period;
    let fields: Vec<_> = given.iter().filter(|(x, _)| !x.field.is_empty()).collect();
    configuration = overlay(&configuration, &fields, collector);
    let addresses = [
        (
            "healthz-port",
            &mut configuration.healthz_bind_address,
            args.healthz_port,
            args.healthz_bind_address.is_some(),
            10256,
        ),
        (
            "metrics-port",
            &mut configuration.metrics_bind_address,
            args.metrics_port,
            args.metrics_bind_address.is_some(),
            10249,
        ),
    ];
    for (flag, address, port, given, default) in addresses {
        match port.map(u16::try_from) {
            Some(Err(_)) => collector.flag(flag, port.unwrap_or_default(), PORTS),
            Some(Ok(port)) => apply_port(address, Some(port), given, default),
            None => apply_port(address, None, given, default),
        }
    }
    let warnings = given
        .iter()
        .filter_map(|(x, _)| no_meaning(&format!("--{}", x.flag), x))
        .collect();
    Merged {
        configuration,
        warnings,
    }
}

const PORTS: &str = "allowed: a port from 1 to 65535, or 0 for none";

/// The deprecated port flags: 0 disables, else they fill in a missing port.
fn apply_port(address: &mut String, port: Option<u16>, address_given: bool, default: u16) {
    match port {
        Some(0) => address.clear(),
        Some(port) if !address_given => {
            let host = address.rsplit_once(':').map_or(address.as_str(), |x| x.0);
            *address = format!("{host}:{port}");
        }
        Some(port) => with_port(address, port),
        None => with_port(address, default),
    }
}

fn with_file(given: &Given, path: &Path, text: &str, collector: &mut Collector) -> Option<Merged> {
    let decoded = decode(text, collector)?;
    let mut configuration = decoded.configuration;
    configuration.fill_defaults();
    let shown = path.display();
    let mut warnings: Vec<_> = decoded
        .lenient
        .iter()
        .map(|x| format!("{shown}: {x}; passed over, as strict decoding failed"))
        .collect();
    warnings.extend(
        decoded
            .given
            .iter()
            .filter_map(|x| no_meaning(&format!("{shown}: {}", x.field), x)),
    );
    let (kept, dropped): (Vec<_>, Vec<_>) = given.iter().partition(|(x, _)| wins_over_file(x));
    warnings.extend(dropped.iter().map(|(x, _)| gives_way(x)));
    let flag = |x: &Setting| format!("--{}", x.flag);
    warnings.extend(kept.iter().filter_map(|(x, _)| no_meaning(&flag(x), x)));
    let fields: Vec<_> = kept
        .into_iter()
        .filter(|(x, _)| !x.field.is_empty())
        .collect();
    collector.flags = fields.iter().map(|(x, _)| x.field).collect();
    let configuration = overlay(&configuration, &fields, collector);
    Some(Merged {
        configuration,
        warnings,
    })
}

/// Flags that hold beside a file: those without a field, the name, logging.
fn wins_over_file(setting: &Setting) -> bool {
    let port = matches!(setting.flag, "healthz-port" | "metrics-port");
    setting.field.is_empty() && !port
        || setting.field == "hostnameOverride"
        || setting.field.starts_with("logging.")
}

fn gives_way(setting: &Setting) -> String {
    if setting.field.is_empty() {
        return format!(
            "--{} is passed over, because --config is given",
            setting.flag
        );
    }
    format!(
        "--{} is passed over, because --config is given; set {} in the file",
        setting.flag, setting.field
    )
}

fn no_meaning(name: &str, setting: &Setting) -> Option<String> {
    match setting.class {
        Class::NoMeaning(why) => Some(format!("{name} has no meaning here: {why}")),
        Class::Honoured | Class::Refused(_) => None,
    }
}

/// The configuration with these flags in their fields.
fn overlay(
    configuration: &KubeProxyConfiguration,
    flags: &[&(&'static Setting, Value)],
    collector: &mut Collector,
) -> KubeProxyConfiguration {
    let mut tree = json!(configuration);
    for (setting, value) in flags {
        match field_value(setting, value) {
            Ok(value) => set(&mut tree, setting.field, value),
            Err(reason) => collector.flag(setting.flag, value, reason),
        }
    }
    serde_json::from_value(tree).unwrap_or_else(|error| {
        collector.whole(error.to_string());
        configuration.clone()
    })
}

fn set(tree: &mut Value, field: &str, value: Value) {
    let mut place = tree;
    for part in field.split('.') {
        place = &mut place[part];
    }
    *place = value;
}

/// A flag's value in the form of its field.
fn field_value(setting: &Setting, value: &Value) -> Result<Value, String> {
    match (setting.kind, value) {
        (Kind::Gates, Value::Array(items)) => items
            .iter()
            .map(gate)
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object),
        (Kind::Vmodule, Value::String(text)) => pairs(text).map(Value::Array),
        (Kind::Texts, Value::Array(items)) => {
            let filled = |x: &&Value| x.as_str().is_some_and(|x| !x.is_empty());
            Ok(items.iter().filter(filled).cloned().collect())
        }
        _ => Ok(value.clone()),
    }
}

fn gate(item: &Value) -> Result<(String, Value), String> {
    let text = item.as_str().unwrap_or_default();
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!(
            "{text:?} lacks its value; allowed: NAME=true, NAME=false"
        ));
    };
    Ok((
        name.trim().to_owned(),
        Value::Bool(boolean::parse(value.trim())?),
    ))
}

fn pairs(text: &str) -> Result<Vec<Value>, String> {
    let pair = |item: &str| {
        let (pattern, verbosity) = item.split_once('=')?;
        let verbosity: u32 = verbosity.parse().ok()?;
        Some(json!({"filePattern": pattern, "verbosity": verbosity}))
    };
    let items = text.split(',').filter(|x| !x.is_empty());
    items
        .map(|x| pair(x).ok_or_else(|| format!("{x:?}: allowed: PATTERN=N,...")))
        .collect()
}

//! `--restore`: rules from standard input, all read before one is carried out,
//! and then in batches.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use ipvs_netlink::{Client, Request, ServiceId};
use kube_ipvs_dataplane::linux::with_hint;

use super::args::InspectArgs;
use super::names::{Names, ServiceNames};
use super::rules;
use crate::streams;

/// The most that is read, in bytes: a million rules.
const LARGEST: u64 = 128 << 20;
/// More refusals than this are counted and not said.
const SAID: usize = 20;

/// Carries out what stands on standard input. Exit code 1 when the kernel
/// refused a rule; the others are carried out.
///
/// # Errors
/// A rule that makes no sense, or one for a virtual server of the daemon without
/// `--force`: then nothing was changed.
pub(super) fn run(args: &InspectArgs, client: &mut Client) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .context("read rules from standard input")?;
    ensure!(
        text.len() as u64 <= LARGEST,
        "more than {LARGEST} bytes of rules; nothing was changed"
    );
    let (lines, requests) = requests(&text, &Names::of_this_host())?;
    drop(text);
    if !args.force {
        foreign_only(&lines, &requests, &ServiceNames::read(&args.state_dir)?)?;
    }
    let refused = client.apply(&requests).map_err(with_hint)?;
    let count = refused.len();
    for (index, error) in refused.into_iter().take(SAID) {
        let error = with_hint(error);
        streams::complain(format_args!("kube-ipvs: line {}: {error:#}", lines[index]));
    }
    if count > SAID {
        let more = count - SAID;
        streams::complain(format_args!(
            "kube-ipvs: and {more} more rules were refused"
        ));
    }
    Ok(if count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The lines of rules, counted from 1, and their requests.
///
/// # Errors
/// The first rule that makes no sense.
pub fn requests(text: &str, names: &Names) -> anyhow::Result<(Vec<usize>, Vec<Request>)> {
    // The shortest rule is `-D -f 1`. A table is large, and moved whole where it grows.
    let most = text.lines().filter(|line| line.len() >= 7).count();
    let (mut lines, mut requests) = (Vec::with_capacity(most), Vec::with_capacity(most));
    for (line, number) in text.lines().zip(1..) {
        let request = rules::request(line, names)
            .with_context(|| format!("line {number}: nothing was changed"))?;
        if let Some(request) = request {
            lines.push(number);
            requests.push(request);
        }
    }
    Ok((lines, requests))
}

/// An error when a rule is for a virtual server of the daemon.
fn foreign_only(lines: &[usize], requests: &[Request], names: &ServiceNames) -> anyhow::Result<()> {
    for (line, request) in lines.iter().zip(requests) {
        let owner = front(request).and_then(|id| Some((id, names.of(id)?)));
        if let Some((id, service)) = owner {
            anyhow::bail!(
                "line {line}: {id} is the daemon's, for {service}, and would be put right again: \
                 leave it out, or --force; nothing was changed"
            );
        }
    }
    Ok(())
}

/// The virtual server that a rule is for.
fn front(request: &Request) -> Option<&ServiceId> {
    match request {
        Request::AddService(service) | Request::EditService(service) => Some(&service.id),
        Request::RemoveService(id)
        | Request::AddDestination(id, _)
        | Request::EditDestination(id, _)
        | Request::RemoveDestination(id, _) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "# saved\n-A -t 10.0.0.1:80 -s rr\n\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m\n";

    #[test]
    fn each_rule_keeps_its_line() {
        let (lines, _) = requests(RULES, &Names::none()).unwrap();
        assert_eq!(lines, [2, 4]);
        let wrong = requests("-A -t 10.0.0.1:80\n-C\n", &Names::none()).unwrap_err();
        let wrong = format!("{wrong:#}");
        assert!(
            wrong.starts_with("line 2: nothing was changed: \"-C\""),
            "{wrong}"
        );
    }

    #[test]
    fn what_the_record_names_is_left_to_the_daemon() {
        let (lines, requests) = requests(RULES, &Names::none()).unwrap();
        let check = |key| foreign_only(&lines, &requests, &ServiceNames::one(key, "default/web"));
        assert!(check("10.0.0.1:81/TCP").is_ok());
        let refused = check("10.0.0.1:80/TCP").unwrap_err().to_string();
        assert!(
            refused.starts_with("line 2: 10.0.0.1:80/TCP is the daemon's"),
            "{refused}"
        );
        assert!(refused.contains("default/web"), "{refused}");
    }
}

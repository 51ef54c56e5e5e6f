//! A snapshot as ipvsadm 1.31 prints it.

use super::lines;
use super::names::Names;
use super::order;
use super::snapshot::Snapshot;

/// Which columns a listing has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Forwarding, weight, connections.
    #[default]
    Default,
    /// `-S`: as `ipvsadm -R` reads it.
    Rules,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnels,
}

/// What a listing should look like.
#[derive(Debug, Clone, Copy)]
pub struct ListOptions {
    /// Its columns.
    pub form: Form,
    /// `--exact`.
    pub exact: bool,
    /// Without `--nosort`.
    pub sort: bool,
    /// The line with the version, which a listing of one service lacks.
    pub heading: bool,
}

/// The listing.
pub fn render(snapshot: &Snapshot, options: &ListOptions, names: &Names) -> String {
    let mut text = String::new();
    if options.form != Form::Rules {
        if options.heading {
            text += &lines::heading(&snapshot.info);
        }
        text += &lines::title(options.form);
    }
    let mut services = snapshot.services.clone();
    if options.sort {
        services = order::sorted(&services, &|(a, _), (b, _)| order::services(a, b));
    }
    for (service, destinations) in &services {
        text += &lines::service(service, options, names);
        let destinations = if options.sort {
            order::sorted(destinations, &order::destinations)
        } else {
            destinations.clone()
        };
        for destination in &destinations {
            text += &lines::destination(service, destination, options, names);
        }
    }
    text
}

#[cfg(test)]
mod tests;

//! A snapshot as ipvsadm 1.31 prints it.

use super::form::{Form, ListOptions};
use super::lines;
use super::names::Names;
use super::order;
use super::snapshot::Snapshot;

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

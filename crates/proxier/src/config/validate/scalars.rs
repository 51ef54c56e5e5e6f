//! One value each: read, or named in the collector with what is allowed.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Check, NETWORKS};
use crate::config::conntrack::seconds;
use crate::config::door;
use crate::config::duration::GoDuration;

impl Check<'_> {
    pub(super) fn address(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        if text.is_empty() {
            return None;
        }
        let address: Option<SocketAddr> = text.parse().ok().filter(|x: &SocketAddr| x.port() != 0);
        if address.is_none() {
            let allowed = "allowed: an IP address, or IP:PORT with a port from 1 to 65535";
            self.collector.field(field, format!("{text:?}"), allowed);
        }
        address
    }

    pub(super) fn within(&mut self, field: &str, value: i32, least: i32, most: i32) -> i32 {
        if !(least..=most).contains(&value) {
            self.collector
                .field(field, value, format!("allowed: {least} to {most}"));
        }
        value
    }

    pub(super) fn positive(&mut self, field: &str, value: GoDuration) -> Duration {
        if value.is_zero() {
            self.collector.field(field, value, "allowed: more than 0s");
        }
        self.at_least_zero(field, value, "more than 0s")
    }

    pub(super) fn not_negative(&mut self, field: &str, value: GoDuration) -> Duration {
        self.at_least_zero(field, value, "0s or more")
    }

    pub(super) fn at_least_zero(
        &mut self,
        field: &str,
        value: GoDuration,
        allowed: &str,
    ) -> Duration {
        value.duration().unwrap_or_else(|| {
            self.collector
                .field(field, value, format!("allowed: {allowed}"));
            Duration::ZERO
        })
    }

    /// A time-out of the kernel; none is zero.
    pub(super) fn whole_seconds(
        &mut self,
        field: &str,
        value: GoDuration,
        longest: u64,
        in_words: &str,
    ) -> Option<u64> {
        self.not_negative(field, value);
        if !door::is_whole_seconds(value) {
            self.collector.field(field, value, "allowed: whole seconds");
        }
        let whole = seconds(value)?;
        if whole > longest {
            let allowed = format!("allowed: at most {longest}s ({in_words}), the kernel's limit");
            self.collector.field(field, value, allowed);
        }
        Some(whole)
    }

    pub(super) fn count(&mut self, field: &str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.collector.field(field, value, "allowed: 0 or more");
            0
        })
    }

    pub(super) fn networks(&mut self, field: &str, texts: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self.collector.field(field, format!("{text:?}"), NETWORKS),
            }
        }
        networks
    }
}

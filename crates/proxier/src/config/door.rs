//! What values must look like to pass the door: a value that passes is never
//! refused, cut or bent further in.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use http::uri::Authority;
use kube_ipvs_core::names::ServiceName;

use super::duration::GoDuration;

/// The longest time-out of conntrack that any kernel takes, in seconds: it
/// counts in ticks, a hundred a second at least, and holds 31 bits of them.
pub(super) const LONGEST_CONNTRACK_TIMEOUT: u64 = 21_474_836;
/// More entries than this and the hash table for them is no accident any more:
/// 2 GiB of memory.
pub(super) const MOST_CONNTRACK_ENTRIES: u32 = 1 << 30;

/// Whether a Node may have this name: a DNS subdomain.
pub(super) fn is_node_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

fn is_dns_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&label.len())
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A Service by namespace and name: `kube-system/kube-dns`.
pub(super) fn service_name(text: &str) -> Option<ServiceName> {
    let (namespace, name) = text.split_once('/')?;
    let are_labels = is_dns_label(namespace) && is_dns_label(name);
    are_labels.then(|| ServiceName::new(namespace, name))
}

/// Whether a label may have this value. It stands in a selector that the API
/// server parses.
pub(super) fn is_label_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(inner)
        && edge(value.chars().next())
        && edge(value.chars().last())
}

/// A port, or a range of them: `22`, `10250-10260`.
pub(super) fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|port| digits && *port != 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// Whether others can reach a node at this address.
pub(super) fn is_node_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.to_ipv4_mapped().is_some()
        }
    };
    !link_local && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Whether it is whole seconds: the kernel knows no parts of one.
pub(super) fn is_whole_seconds(duration: GoDuration) -> bool {
    duration.duration().is_none_or(|x| x.subsec_nanos() == 0)
}

/// Whether an API server may be at this URL.
pub(super) fn is_server(url: &str) -> bool {
    let parsed = url.parse::<http::Uri>();
    parsed.is_ok_and(|uri| {
        let web = |scheme: &str| matches!(scheme, "https" | "http");
        uri.scheme_str().is_some_and(web) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// Host and port of a server, if that is what this is.
pub(super) fn authority(text: &str) -> Option<Authority> {
    let parsed: Authority = text.parse().ok()?;
    let whole = !parsed.host().is_empty() && parsed.port_u16()? > 0 && !text.contains('@');
    whole.then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        for good in [
            "n",
            "node-1",
            "node-1.example.org",
            "10.0.0.1",
            &"a".repeat(63),
        ] {
            assert!(is_node_name(good), "{good}");
        }
        let long = vec!["a".repeat(63); 4].join(".");
        for bad in [
            "",
            ".",
            "a.",
            "-a",
            "a-",
            "a b",
            "a/b",
            "a_b",
            "A",
            "ä",
            "a\n",
            &"a".repeat(64),
            &long,
        ] {
            assert!(!is_node_name(bad), "{bad}");
        }
    }

    #[test]
    fn values_of_labels() {
        for good in ["", "kube-ipvs", "a_B.9"] {
            assert!(is_label_value(good), "{good}");
        }
        for bad in ["-a", "a.", "a,b", "a=b", "a b", "a\n", &"a".repeat(64)] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_of_nodes() {
        for (text, good) in [
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("169.254.0.1", false),
            ("fe80::1", false),
            ("255.255.255.255", false),
            ("::ffff:192.0.2.1", false),
        ] {
            assert_eq!(is_node_address(text.parse().expect(text)), good, "{text}");
        }
    }

    #[test]
    fn ports_and_ranges() {
        assert_eq!(ports("22"), Some(22..=22));
        assert_eq!(ports("10250-10260"), Some(10250..=10260));
        assert_eq!(ports("1-65535"), Some(1..=65535));
        for bad in [
            "", "0", "0-5", "+5", " 5", "65536", "5-4", "5-", "-5", "1-2-3", "a",
        ] {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_of_servers() {
        for good in [
            "https://192.0.2.1",
            "http://localhost:8080",
            "https://[2001:db8::1]:6443/x",
        ] {
            assert!(is_server(good), "{good}");
        }
        for bad in [
            "",
            "192.0.2.1",
            "192.0.2.1:6443",
            "ftp://x",
            "https://",
            "https:// x",
            "x y",
        ] {
            assert!(!is_server(bad), "{bad}");
        }
    }
}

//! What ipvsadm has and `inspect` does not.

/// Options of ipvsadm that change the kernel one rule at a time, short and long.
const ABSENT: [(&str, &str); 29] = [
    ("-A", "--add-service"),
    ("-E", "--edit-service"),
    ("-D", "--delete-service"),
    ("-C", "--clear"),
    ("-a", "--add-server"),
    ("-e", "--edit-server"),
    ("-d", "--delete-server"),
    ("", "--set"),
    ("", "--start-daemon"),
    ("", "--stop-daemon"),
    ("-s", "--scheduler"),
    ("-p", "--persistent"),
    ("-M", "--netmask"),
    ("-r", "--real-server"),
    ("-m", "--masquerading"),
    ("-i", "--ipip"),
    ("-g", "--gatewaying"),
    ("-w", "--weight"),
    ("-x", "--u-threshold"),
    ("-y", "--l-threshold"),
    ("-b", "--sched-flags"),
    ("", "--ops"),
    ("", "--pe"),
    ("", "--mcast-interface"),
    ("", "--syncid"),
    ("", "--tun-type"),
    ("", "--tun-port"),
    ("-v", "--version"),
    ("", "--sync-maxlen"),
];

/// Why `inspect` does not know an option, if it is one of ipvsadm's.
pub fn why_absent(option: &str) -> Option<String> {
    let (short, long) = ABSENT
        .iter()
        .find(|(short, long)| option == *short || option == *long)?;
    let names = if short.is_empty() {
        (*long).to_owned()
    } else {
        format!("{long} ({short})")
    };
    Some(format!(
        "inspect has no {names}, which ipvsadm has: it lists (-L), saves (-S), restores (-R) and \
         zeroes (-Z). Virtual servers of Services follow their Services; rules of your own go \
         through ipvsadm, or inspect --restore"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_of_ipvsadm_is_refused_by_name() {
        let why = why_absent("-A").expect("it is ipvsadm's");
        assert!(
            why.starts_with("inspect has no --add-service (-A)"),
            "{why}"
        );
        assert!(why_absent("--set").is_some());
        assert_eq!(why_absent("--lst"), None);
    }
}

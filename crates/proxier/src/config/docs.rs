//! `docs/flags.md`, made from the table.

use std::fmt::Write;

use super::table::{Class, SETTINGS, Setting};

const HEAD: &str = "\
# Flags and fields

<!-- Made from crates/proxier/src/config/table.rs. To write it anew:
     UPDATE=1 cargo test -p kube-ipvs config -->

`kube-ipvs run` takes the flags of kube-proxy 1.37 and its file
(`--config`, `KubeProxyConfiguration`, `kubeproxy.config.k8s.io/v1alpha1`),
and some of its own. Booleans are written `--flag` or `--flag=false`, durations
`30s`, `1h30m`, `250ms`, lists with commas or by repeating the flag.

**With a file** the flags of kube-proxy give way to it, with one warning each;
those without a field, `--hostname-override` and the logging flags hold beside
it. Unknown and duplicate fields of the file are named in a warning and passed
over, as kube-proxy does. A wrong type or value is refused at start: all of
them are listed, with flag or file and field, value and what is allowed; exit
code 64 for flags, 1 where only the file is to blame. The kernel is not touched.

Three kinds of settings:

* **honoured**: does what it says;
* **no meaning**: accepted, with one warning that says why;
* **refused**: the program does not start with another value.

";

/// The text of `docs/flags.md`.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    section(
        &mut text,
        "kube-proxy's",
        SETTINGS.iter().filter(|x| !is_ours(x)),
    );
    section(&mut text, "Ours", SETTINGS.iter().filter(|x| is_ours(x)));
    text
}

/// Ours begin where the fields of kube-proxy's file end.
fn is_ours(setting: &Setting) -> bool {
    let kind = SETTINGS.iter().position(|x| x.field == "kind");
    let own = SETTINGS
        .iter()
        .position(|x| x.flag == setting.flag && x.field == setting.field);
    own > kind
}

fn section<'a>(text: &mut String, title: &str, settings: impl Iterator<Item = &'a Setting>) {
    let _ = writeln!(
        text,
        "## {title}\n\n| Flag | Field | Default | | |\n| --- | --- | --- | --- | --- |"
    );
    for setting in settings {
        let _ = writeln!(text, "{}", row(setting));
    }
    text.push('\n');
}

fn row(setting: &Setting) -> String {
    let code = |x: &str, prefix: &str| {
        if x.is_empty() {
            String::new()
        } else {
            format!("`{prefix}{x}`")
        }
    };
    let (class, why) = match setting.class {
        Class::Honoured => ("honoured", ""),
        Class::NoMeaning(why) => ("no meaning", why),
        Class::Refused(why) => ("refused", why),
    };
    let words: Vec<_> = [why, setting.note]
        .into_iter()
        .filter(|x| !x.is_empty())
        .collect();
    format!(
        "| {} | {} | {} | {class} | {} |",
        code(setting.flag, "--"),
        code(setting.field, ""),
        code(setting.default, ""),
        words.join("; ")
    )
}

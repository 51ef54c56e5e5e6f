//! Counts in eight columns, as ipvsadm shortens them.

/// Nine columns with the blank before it: whole, or in thousands (`K`),
/// millions (`M`), billions (`G`), trillions (`T`).
pub(super) fn large(n: u64, exact: bool) -> String {
    if exact {
        let digits = n.to_string();
        let width = if digits.len() > 8 {
            digits.len() + 1
        } else {
            9
        };
        return format!("{digits:>width$}");
    }
    match n {
        0..100_000_000 => format!("{n:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", n / 1_000),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", n / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", n / 1_000_000_000),
        _ => format!("{:>8}T", n / 1_000_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shortened_where_ipvsadm_shortens_them() {
        let shown = |n| large(n, false);
        assert_eq!(shown(99_999_999), " 99999999");
        assert_eq!(shown(100_000_000), "  100000K");
        assert_eq!(shown(999_999_999), "  999999K");
        assert_eq!(shown(1_000_000_000), "    1000M");
        assert_eq!(shown(100_000_000_000), "     100G");
        assert_eq!(shown(100_000_000_000_000), "     100T");
        assert_eq!(large(123, true), "      123");
        assert_eq!(large(123_456_789, true), " 123456789");
    }
}

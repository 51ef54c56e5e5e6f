//! Booleans as Go reads them.

/// Reads what Go's `strconv.ParseBool` reads.
///
/// # Errors
/// Any other text; the message lists what is allowed.
pub(super) fn parse(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is no boolean; allowed: true, false")),
    }
}

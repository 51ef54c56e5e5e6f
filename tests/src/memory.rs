//! How much memory a process has.

use std::fs;

use nix::unistd::Pid;

/// A size in `/proc/PID/status`, in KiB: `VmRSS` is what it has now, `VmHWM`
/// the most it ever had. Panics when there is no such process or field.
pub fn memory_kib(pid: Pid, field: &str) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let of_field = |line: &str| {
        let size = line.strip_prefix(field)?.strip_prefix(':')?;
        size.trim().strip_suffix(" kB")?.parse().ok()
    };
    let size = status.lines().find_map(of_field);
    size.unwrap_or_else(|| panic!("no {field} in {path}:\n{status}"))
}

//! What heartbeats say of the machine, where it tells.

/// Load average of the last minute.
pub(crate) fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Bytes of memory that could be used without swapping.
pub(crate) fn memory_free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The machine's name.
pub(crate) fn host() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

//! Processor time and memory of process groups, from `/proc`.

use std::collections::BTreeMap;

/// Clock ticks a second in `/proc`: Linux shows 100 to user programs on every architecture that we know.
const TICKS_PER_S: f64 = 100.0;

/// Processor seconds by role, of all processes in the role's groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu(BTreeMap<&'static str, f64>);

impl Cpu {
    /// Looks now. Where there is no `/proc`, everything is zero.
    pub(crate) fn now(groups: &[(&'static str, u32)]) -> Self {
        let own = ("bench", std::process::id());
        let mut seconds: BTreeMap<_, _> = groups.iter().map(|(role, _)| (*role, 0.0)).collect();
        seconds.insert(own.0, 0.0);
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            // It may have ended in the meantime.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((pid, group, ticks)) = read(&stat) else { continue };
            let mut roles = groups.iter().filter(|(_, leader)| *leader == group);
            let role = match pid == own.1 {
                true => Some(own.0),
                false => roles.next().map(|(role, _)| *role),
            };
            if let Some(total) = role.and_then(|role| seconds.get_mut(role)) {
                *total += ticks / TICKS_PER_S;
            }
        }
        Self(seconds)
    }

    /// Microseconds a task by role since `before`.
    pub(crate) fn per_task_since(&self, before: &Self, tasks: usize) -> BTreeMap<String, f64> {
        let used = |role: &str, now: f64| now - before.0.get(role).copied().unwrap_or(now);
        let per_task = |used: f64| used.max(0.0) * 1e6 / tasks as f64;
        self.0.iter().map(|(role, now)| ((*role).to_owned(), per_task(used(role, *now)))).collect()
    }
}

/// Bytes of memory that a process keeps; 0 where there is no `/proc`.
pub(crate) fn resident_bytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

/// Process, group, and ticks in user and system mode, of a line of `/proc/<pid>/stat`.
fn read(stat: &str) -> Option<(u32, u32, f64)> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    // The name, in parentheses, may itself contain anything.
    let rest: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let ticks = |at: usize| rest.get(at)?.parse::<f64>().ok();
    Some((pid, rest.get(2)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read() {
        let line = "42 (a) b) S 1 40 40 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 5 6 7";
        assert_eq!(read(line), Some((42, 40, 200.0)));
        assert_eq!(read("42 (gone"), None);
    }
}

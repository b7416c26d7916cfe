use super::keys::Keys;
use crate::program::{Account, Limits, Program};
use nix::unistd::{User, geteuid};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Reads a program, which the key `action` names.
pub(super) fn read(action: &str, keys: &mut Keys) -> Option<Program> {
    let exec = keys.take::<Vec<String>>(action);
    let dir = keys.take::<PathBuf>("dir");
    if let Some(dir) = dir.as_ref().filter(|dir| !dir.is_dir()) {
        keys.problem(format!("dir {} is no directory", dir.display()));
    }
    if let Some(exec) = &exec {
        match exec.first().map(String::as_str) {
            None | Some("") => keys.problem(format!("{action} names no program")),
            Some(program) if !can_be_run(program, dir.as_deref()) => {
                keys.problem(format!("the program {program:?} cannot be found"));
            }
            Some(_) => {}
        }
    }
    let env = keys.texts("env");
    let bad = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])).cloned();
    if let Some(name) = bad {
        keys.problem(format!("env: {name:?} is no name of a variable"));
    }
    let account = account(keys);
    let limits = Limits {
        memory_max: keys.bytes("memory_max"),
        cpu_seconds_max: keys.number("cpu_seconds_max"),
    };
    if action == "resident" && limits.cpu_seconds_max.is_some() {
        keys.problem("cpu_seconds_max counts over all tasks of a resident program: use timeout_ms");
    }
    Some(Program { exec: exec?, dir, env, hidden: BTreeSet::new(), account, limits })
}

/// As whom it is to run.
fn account(keys: &mut Keys) -> Option<Account> {
    let name = keys.take::<String>("user");
    let (uid, gid) = (keys.take::<u32>("uid"), keys.take::<u32>("gid"));
    let account = match (name, uid, gid) {
        (None, None, None) => return None,
        (Some(name), None, None) => match User::from_name(&name) {
            Ok(Some(user)) => Account {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                name: Some((name, user.dir)),
            },
            Ok(None) => {
                keys.problem(format!("there is no user {name}"));
                return None;
            }
            Err(error) => {
                keys.problem(format!("the user {name} cannot be looked up: {error}"));
                return None;
            }
        },
        (None, Some(uid), Some(gid)) => Account { uid, gid, name: None },
        (Some(_), ..) => {
            keys.problem("user says it all: uid and gid are for users without a name");
            return None;
        }
        (None, ..) => {
            keys.problem("uid and gid are needed both");
            return None;
        }
    };
    if !geteuid().is_root() {
        keys.problem("only a worker that runs as root can run programs as another user");
    }
    Some(account)
}

/// Whether there is such a program: on the PATH, or where it says.
fn can_be_run(program: &str, dir: Option<&Path>) -> bool {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        // A relative one is looked for in `dir` when it is run, as the system does.
        let path = dir.map_or_else(|| PathBuf::from(program), |dir| dir.join(program));
        return is_program(&path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

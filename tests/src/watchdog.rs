//! What makes sure that nothing which a test has started outlives it.
//!
//! Statics are never dropped, a panic may abort, Ctrl-C and `kill -9` run no code of ours at all. So a
//! small shell, started with the first process, reads from a pipe whose other end only we hold: when we
//! are gone, however, it reads the end of the file, kills the process groups and removes the folders
//! that it was told about.
//!
//! Process groups miss what leaves them (a daemon, a handler in a group of its own); on Linux these are
//! found by [`MARK`] in their environment.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// The environment variable by which the descendants of a test process are recognised.
pub(crate) const MARK: &str = "TASKYARD_TEST_RUN";

/// (`kill -9 -- -1234` is an error in dash.) Reads commands until the pipe ends, then cleans up. Signals of the terminal are for the test, not
/// for the one who tidies after it.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' ' mark=
set --
while IFS= read -r line; do
    what=${line#* }
    case $line in
    'mark '*) mark=$what ;;
    'group '*) groups="$groups$what " ;;
    'gone '*) case $groups in *" $what "*) groups="${groups%% "$what" *} ${groups#* "$what" }" ;; esac ;;
    'folder '*) set -- "$@" "$what" ;;
    esac
done
for group in $groups; do kill -9 "-$group" 2>/dev/null; done
if [ -n "$mark" ] && [ -d /proc/self ]; then
    for file in $(grep -lzs "^$mark\$" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        kill -9 "${pid%/environ}" 2>/dev/null
    done
fi
[ $# -gt 0 ] || exit 0
rm -rf -- "$@" 2>/dev/null && exit 0
sleep 1 # somebody was still writing
rm -rf -- "$@"
"#;

/// The one watchdog of this process.
pub(crate) struct Watchdog {
    /// Its standard input is the pipe that ends with us.
    shell: Mutex<Child>,
    mark: String,
}

impl Watchdog {
    /// The watchdog of this process, started at the first call.
    pub(crate) fn of_this_process() -> &'static Self {
        static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
        WATCHDOG.get_or_init(Self::start)
    }

    fn start() -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .env_remove(MARK)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("every Unix has /bin/sh");
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let watchdog = Self { shell: Mutex::new(shell), mark };
        watchdog.tell("mark", &format!("{MARK}={}", watchdog.mark));
        watchdog
    }

    /// The value of [`MARK`] for every process that we start.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Kill this process group when we end.
    pub(crate) fn kill_at_end(&self, group: u32) {
        self.tell("group", &group.to_string());
    }

    /// This group has ended: its number may soon be somebody else's.
    pub(crate) fn forget(&self, group: u32) {
        self.tell("gone", &group.to_string());
    }

    /// Remove this folder when we end.
    pub(crate) fn remove_at_end(&self, folder: &Path) {
        self.tell("folder", &folder.to_string_lossy());
    }

    fn tell(&self, what: &str, value: &str) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = shell.stdin.as_mut().expect("it was asked for");
        // One write, shorter than PIPE_BUF: a line is whole or not there.
        let line = format!("{what} {value}\n");
        // It fails only when somebody has killed the watchdog: then what we drop ourselves has to do.
        let _ = pipe.write_all(line.as_bytes());
    }
}

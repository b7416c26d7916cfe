use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    given: String,
    known: &'static [&'static str],
}

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of {}", self.given, self.known.join(", "))
    }
}

impl std::error::Error for UnknownPolicy {}

macro_rules! policies {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl FromStr for $name {
            type Err = UnknownPolicy;

            fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
                const KNOWN: &[&str] = &[$($text,)+];
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err(UnknownPolicy { given: text.to_owned(), known: KNOWN }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text,)+ })
            }
        }
    };
}

policies! {
    /// Which task goes next.
    OrderName {
        /// First come, first served.
        Fcfs = "fcfs",
        /// By priority; waiting raises it.
        Priority = "priority",
    }
}
policies! {
    /// Which worker gets it.
    RouteName {
        /// Smooth weighted round robin.
        Weighted = "weighted",
        /// The one with the smallest share of its slots taken.
        LeastLoaded = "least_loaded",
    }
}
policies! {
    /// How many tasks a worker may have at once.
    Mode {
        /// As many as it has slots.
        Passive = "passive",
        /// Also those that will find a slot free by the time they arrive.
        Hybrid = "hybrid",
    }
}

/// How a pool is scheduled, and its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which task goes next. Default: priority.
    pub order: OrderName,
    /// How long a task waits until it counts as one priority higher. Shorter starves nobody sooner;
    /// longer keeps priorities apart. Default 60 s.
    pub ageing: Duration,
    /// Which worker gets it. Default: weighted.
    pub route: RouteName,
    /// How many tasks a worker may have at once. Default: hybrid.
    pub mode: Mode,
    /// Tasks that the window holds. Larger ranks more exactly and takes more memory (about 1 KiB a
    /// task and its payload). Default 10,000.
    pub window_tasks: usize,
    /// Bytes of payloads that the window holds. Default 256 MiB.
    pub window_bytes: usize,
    /// Places in the window for a class that no worker can take; the rest is parked. Default 256.
    pub untakeable_tasks: usize,
    /// A payload larger than this never waits in the window. Default 256 KiB.
    pub waiting_bytes_max: usize,
    /// Tasks that a worker may have beyond its slots in hybrid mode. Default 1,024.
    pub look_ahead_max: u32,
    /// Tasks are held in memory when they are due within this time. Default 2 s.
    pub near: Duration,
    /// A copy is held unacked in the window for at most so long; then it is moved on, before the
    /// broker's consumer timeout (30 min by default) closes the channel. Default 10 min.
    pub hold_max: Duration,
    /// How long a dispatched message may lie untouched before it comes back. Default 2 s.
    pub lie: Duration,
    /// A worker that is silent for so long gets nothing new. Default 6 s (three heartbeats).
    pub suspect_after: Duration,
    /// A worker that is silent for so long has lost what it ran. Default 30 s.
    pub lost_after: Duration,
    /// How long a success is remembered. Default 1 h.
    pub keep_succeeded: Duration,
    /// How long other final states are remembered. Default 7 d.
    pub keep_others: Duration,
    /// Seed of the generator that draws jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order: OrderName::Priority,
            ageing: Duration::from_secs(60),
            route: RouteName::Weighted,
            mode: Mode::Hybrid,
            window_tasks: 10_000,
            window_bytes: 256 * 1024 * 1024,
            untakeable_tasks: 256,
            waiting_bytes_max: 256 * 1024,
            look_ahead_max: 1_024,
            near: Duration::from_secs(2),
            hold_max: Duration::from_secs(600),
            lie: Duration::from_secs(2),
            suspect_after: Duration::from_secs(6),
            lost_after: Duration::from_secs(30),
            keep_succeeded: Duration::from_secs(3_600),
            keep_others: Duration::from_secs(7 * 86_400),
            seed: 0,
        }
    }
}

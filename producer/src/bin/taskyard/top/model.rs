mod recent;

use super::event::{Event, Key, Queue};
use super::list::List;
use crate::counts::{Counts, Meter};
pub(crate) use recent::{Filter, Recent};
use std::collections::VecDeque;
use taskyard_common::store::{TaskView, WorkerView};
use taskyard_model::{Pattern, PoolName, State, TaskId, Timestamp};

/// Rates that are remembered for each pool: 5 minutes at a look a second, and wider than a screen.
const HISTORY: usize = 300;

/// All that the screen shows. Changes by events alone; drawing only reads it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) screen: Screen,
    pub(crate) now: Timestamp,
    pub(crate) pools: List<Pool>,
    pub(crate) workers: List<WorkerView>,
    /// Nothing before the first answer.
    pub(crate) queues: Option<Result<Vec<Queue>, String>>,
    pub(crate) recent: Recent,
    pub(crate) task: Option<Shown>,
    /// Why what is shown is not fresh.
    pub(crate) trouble: Option<String>,
    is_over: bool,
}

/// What is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Screen {
    #[default]
    Overview,
    Workers,
    Lanes,
    Recent,
    /// One task; reached from the list of tasks.
    Task,
}

impl Screen {
    /// Those that the tab key goes through.
    pub(crate) const TABS: [Screen; 4] =
        [Screen::Overview, Screen::Workers, Screen::Lanes, Screen::Recent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Screen::Overview => "Overview",
            Screen::Workers => "Workers",
            Screen::Lanes => "Lanes",
            Screen::Recent => "Recent",
            Screen::Task => "Task",
        }
    }

    /// The tab that is so many further on.
    fn turned(self, by: usize) -> Self {
        let at = Self::TABS.iter().position(|&tab| tab == self).unwrap_or(Self::TABS.len() - 1);
        Self::TABS[(at + by) % Self::TABS.len()]
    }
}

/// A pool, and how its rates were.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    pub(crate) meter: Meter,
    /// Accepted and ended a second, the oldest first.
    pub(crate) accepted: VecDeque<u64>,
    pub(crate) finished: VecDeque<u64>,
}

/// A task that somebody looks at.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) id: TaskId,
    pub(crate) record: Record,
    /// Lines that have been scrolled past.
    pub(crate) scroll: u16,
}

/// What is known of it.
#[derive(Debug)]
pub(crate) enum Record {
    Asked,
    Unknown,
    Known(Box<TaskView>),
}

/// What has to be looked up for the screen, besides the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Counts,
    Workers,
    Queues,
    Tasks {
        state: State,
        kind: Option<Pattern>,
        /// Grows with each wish to look again.
        look: u32,
    },
    Task(TaskId),
}

impl Model {
    /// Whether somebody wants to leave.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn wanted(&self) -> Wanted {
        match (self.screen, &self.task) {
            (Screen::Overview, _) => Wanted::Counts,
            (Screen::Workers, _) => Wanted::Workers,
            (Screen::Lanes, _) => Wanted::Queues,
            (Screen::Task, Some(task)) => Wanted::Task(task.id.clone()),
            (Screen::Recent | Screen::Task, _) => self.recent.wanted(),
        }
    }

    /// Something happened.
    pub(crate) fn update(&mut self, event: Event) {
        if !matches!(event, Event::Key(_) | Event::Failed(_)) {
            self.trouble = None;
        }
        match event {
            Event::Key(key) => self.press(key),
            Event::Counted { at, pools } => self.counted(at, pools),
            Event::Workers(workers) => self.workers.replace(workers, |a, b| a.id == b.id),
            Event::Queues(queues) => self.queues = Some(queues),
            Event::Tasks { state, tasks } => self.recent.take(state, tasks),
            Event::Task { id, task } => {
                // Somebody may look at another one by now.
                if let Some(shown) = self.task.as_mut().filter(|shown| shown.id == id) {
                    shown.record = task.map_or(Record::Unknown, Record::Known);
                }
            }
            Event::Failed(why) => self.trouble = Some(why),
        }
    }

    fn counted(&mut self, at: Timestamp, counted: Vec<(PoolName, Counts)>) {
        self.now = at;
        let known = std::mem::take(self.pools.rows_mut());
        let mut known: Vec<Option<Pool>> = known.into_iter().map(Some).collect();
        let mut find = |name: &PoolName| {
            let mut places = known.iter_mut();
            places.find(|pool| pool.as_ref().is_some_and(|pool| pool.name == *name))?.take()
        };
        let pools = counted.into_iter().map(|(name, counts)| {
            let mut pool = find(&name).unwrap_or_else(|| Pool::new(name));
            pool.look(at, counts);
            pool
        });
        *self.pools.rows_mut() = pools.collect();
    }

    fn press(&mut self, key: Key) {
        if key == Key::Interrupt {
            self.is_over = true;
            return;
        }
        // While a filter is typed all keys belong to it.
        if self.screen == Screen::Recent && self.recent.filter.is_open() {
            return self.recent.press(key);
        }
        match key {
            Key::Char('q') => self.is_over = true,
            Key::Next => self.screen = self.screen.turned(1),
            Key::Previous => self.screen = self.screen.turned(Screen::TABS.len() - 1),
            Key::Char(digit @ '1'..='4') => {
                self.screen = Screen::TABS[digit as usize - '1' as usize];
            }
            key => self.press_on_screen(key),
        }
    }

    fn press_on_screen(&mut self, key: Key) {
        match (self.screen, key) {
            (Screen::Task, Key::Escape) => self.screen = Screen::Recent,
            (Screen::Recent, Key::Enter) => {
                let Some(task) = self.recent.tasks.selected() else { return };
                let id = task.id.clone();
                self.task = Some(Shown { id, record: Record::Asked, scroll: 0 });
                self.screen = Screen::Task;
            }
            (Screen::Overview, key) => self.pools.press(key),
            (Screen::Workers, key) => self.workers.press(key),
            (Screen::Recent, key) => self.recent.press(key),
            (Screen::Task, key) => {
                let Some(task) = &mut self.task else { return };
                task.scroll = match key {
                    Key::Up => task.scroll.saturating_sub(1),
                    Key::Down => task.scroll.saturating_add(1),
                    Key::PageUp => task.scroll.saturating_sub(10),
                    Key::PageDown => task.scroll.saturating_add(10),
                    Key::First => 0,
                    _ => task.scroll,
                };
            }
            (Screen::Lanes, _) => {}
        }
    }
}

impl Pool {
    fn new(name: PoolName) -> Self {
        let (accepted, finished) = (VecDeque::new(), VecDeque::new());
        Self { name, meter: Meter::default(), accepted, finished }
    }

    fn look(&mut self, at: Timestamp, counts: Counts) {
        self.meter.look(at, counts);
        let rates = self.meter.rates();
        for (history, rate) in
            [(&mut self.accepted, rates.accepted), (&mut self.finished, rates.finished)]
        {
            let Some(rate) = rate else { continue };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
            history.push_back(rate.round() as u64);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
    }
}

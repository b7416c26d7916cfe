use crate::counts::Counts;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use taskyard_common::store::{TaskView, WorkerView};
use taskyard_model::{PoolName, State, TaskId, Timestamp};

/// Everything that can happen to the screen. Together with [`Wanted`](super::model::Wanted) this is its
/// whole relation to the world.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody pressed a key.
    Key(Key),
    /// The counts of all pools, as they are now.
    Counted { at: Timestamp, pools: Vec<(PoolName, Counts)> },
    /// All workers.
    Workers(Vec<WorkerView>),
    /// What waits in queues; or why nobody can say.
    Queues(Result<Vec<Queue>, String>),
    /// Tasks in a state, the latest first.
    Tasks { state: State, tasks: Vec<TaskView> },
    /// One task, if there is a record of it.
    Task { id: TaskId, task: Option<Box<TaskView>> },
    /// Redis could not be asked.
    Failed(String),
}

/// What waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) holds: &'static str,
    /// Nothing if there is no such queue.
    pub(crate) messages: Option<u64>,
}

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Next,
    Previous,
    Enter,
    Escape,
    Erase,
    Char(char),
    /// Ctrl-C: in raw mode it is a key like any other.
    Interrupt,
}

impl Key {
    /// What a terminal's key means; `None` if nothing.
    pub(crate) fn of(key: KeyEvent) -> Option<Self> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
        }
        Some(match key.code {
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::Left => Key::Left,
            KeyCode::Right => Key::Right,
            KeyCode::PageUp => Key::PageUp,
            KeyCode::PageDown => Key::PageDown,
            KeyCode::Home => Key::First,
            KeyCode::End => Key::Last,
            KeyCode::Tab => Key::Next,
            KeyCode::BackTab => Key::Previous,
            KeyCode::Enter => Key::Enter,
            KeyCode::Esc => Key::Escape,
            KeyCode::Backspace => Key::Erase,
            KeyCode::Char(c) => Key::Char(c),
            _ => return None,
        })
    }
}

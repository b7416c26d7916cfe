use super::Wanted;
use crate::top::event::Key;
use crate::top::list::List;
use taskyard_common::store::TaskView;
use taskyard_model::{Pattern, State};

/// Tasks in one state.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) state: State,
    pub(crate) tasks: List<TaskView>,
    pub(crate) filter: Filter,
    /// Whether what is shown is of this state and filter.
    pub(crate) is_fresh: bool,
    looks: u32,
}

/// Which kinds to show.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kind: Option<Pattern>,
    /// What is being typed.
    pub(crate) typed: Option<String>,
    /// What is wrong with it.
    pub(crate) mistake: Option<String>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            state: State::Failed,
            tasks: List::default(),
            filter: Filter::default(),
            is_fresh: false,
            looks: 0,
        }
    }
}

impl Recent {
    pub(super) fn wanted(&self) -> Wanted {
        let kind = self.filter.kind.clone();
        Wanted::Tasks { state: self.state, kind, look: self.looks }
    }

    pub(super) fn take(&mut self, state: State, tasks: Vec<TaskView>) {
        // Those of a state that was left meanwhile.
        if state == self.state {
            self.tasks.replace(tasks, |a, b| a.id == b.id);
            self.is_fresh = true;
        }
    }

    pub(super) fn press(&mut self, key: Key) {
        if self.filter.is_open() {
            if self.filter.press(key) {
                self.forget();
            }
            return;
        }
        match key {
            Key::Left => self.turn(State::ALL.len() - 1),
            Key::Right => self.turn(1),
            Key::Char('/') => self.filter.open(),
            Key::Char('r') => self.looks += 1,
            Key::Escape if self.filter.kind.take().is_some() => self.forget(),
            key => self.tasks.press(key),
        }
    }

    fn turn(&mut self, by: usize) {
        let at = State::ALL.iter().position(|&state| state == self.state).unwrap_or(0);
        self.state = State::ALL[(at + by) % State::ALL.len()];
        self.forget();
    }

    fn forget(&mut self) {
        self.tasks = List::default();
        self.is_fresh = false;
    }
}

impl Filter {
    /// Whether somebody types one.
    pub(crate) fn is_open(&self) -> bool {
        self.typed.is_some()
    }

    fn open(&mut self) {
        let kind = self.kind.as_ref().map(|kind| kind.as_str().to_owned());
        self.typed = Some(kind.unwrap_or_default());
        self.mistake = None;
    }

    /// Whether another filter holds now.
    fn press(&mut self, key: Key) -> bool {
        let Some(typed) = &mut self.typed else { return false };
        self.mistake = None;
        match key {
            Key::Char(c) => typed.push(c),
            Key::Erase => drop(typed.pop()),
            Key::Escape => self.typed = None,
            Key::Enter if typed.is_empty() => {
                self.typed = None;
                return self.kind.take().is_some();
            }
            Key::Enter => match Pattern::new(typed) {
                Ok(kind) => {
                    self.typed = None;
                    let is_new = self.kind.as_ref() != Some(&kind);
                    self.kind = Some(kind);
                    return is_new;
                }
                Err(error) => self.mistake = Some(error.to_string()),
            },
            _ => {}
        }
        false
    }
}

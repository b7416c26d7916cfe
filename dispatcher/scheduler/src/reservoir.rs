//! The backlog beyond the window: what spills, and when it is read again.

use crate::entry::Phase;
use crate::event::{Effect, HeadUpdate, Note, Place, Reservoir};
use crate::facts::CarId;
use crate::scheduler::{Pending, Scheduler};
use std::time::Duration;
use taskyard_model::{PRIORITY_MAX, Timestamp};

/// A lane that gives nothing for so long while it is read is empty.
const EMPTY_AFTER: Duration = Duration::from_secs(1);
/// When a session begins, and again after so long, every lane is looked into at once...
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// ... for this time.
const PROBE: Duration = Duration::from_secs(2);
/// What is parked is read through at least so often.
const PARKED_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Something may be in it.
    may_hold: bool,
    is_read: bool,
    /// When it last gave something, had something of it settled, or began to be read.
    heard_at: Timestamp,
    /// Copies of it that are held: as long as there are some, the broker may not be allowed to send
    /// more, so that its silence says nothing.
    held: usize,
}

/// What is known of the backlog's queues.
#[derive(Clone, Debug)]
pub(crate) struct Reservoirs {
    lanes: [Lane; PRIORITY_MAX as usize + 1],
    is_parked_wanted: bool,
    is_parked_read: bool,
    parked_passed_at: Timestamp,
    probed_at: Option<Timestamp>,
    looked_at: Timestamp,
    /// Copies too large to wait here.
    pub(crate) large: Vec<CarId>,
}

impl Default for Reservoirs {
    fn default() -> Self {
        let lane = Lane { may_hold: true, ..Lane::default() };
        Self {
            lanes: [lane; PRIORITY_MAX as usize + 1],
            is_parked_wanted: true,
            is_parked_read: false,
            parked_passed_at: Timestamp::ZERO,
            probed_at: None,
            looked_at: Timestamp::ZERO,
            large: Vec::new(),
        }
    }
}

impl Reservoirs {
    pub(crate) fn arrived(&mut self, lane: Option<u8>, now: Timestamp) {
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(usize::from(lane))) {
            lane.heard_at = now;
            lane.held += 1;
        }
    }

    pub(crate) fn released(&mut self, lane: Option<u8>, now: Timestamp) {
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(usize::from(lane))) {
            lane.heard_at = now;
            lane.held = lane.held.saturating_sub(1);
        }
    }

    /// Somebody may take what nobody took.
    pub(crate) fn want_parked(&mut self) {
        self.is_parked_wanted = true;
    }
}

impl Scheduler {
    /// Moves what ranks lowest out of a window that is full, and what has been held too long.
    pub(crate) fn make_room(&mut self) {
        for car in std::mem::take(&mut self.reservoirs.large) {
            if self.entries.get(car).is_some_and(|e| matches!(e.phase, Phase::Waiting { .. })) {
                self.spill(car);
            }
        }
        while self.classes.waiting() > self.settings.window_tasks
            || self.classes.waiting_bytes() > self.settings.window_bytes
        {
            let Some(car) = self.classes.last() else { break };
            self.spill(car);
        }
        let interval = self.settings.hold_max / 8;
        if self.now.since(self.reservoirs.looked_at) >= interval {
            self.reservoirs.looked_at = self.now;
            let old = self.entries.waiting_since(self.now - self.settings.hold_max);
            old.into_iter().for_each(|car| self.spill(car));
        }
    }

    fn spill(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        if entry.is_new {
            // On record first; then it is looked at again.
            return self.accept_waiting(car);
        }
        if let Phase::Waiting { class, .. } = entry.phase
            && self.classes.get(class).workers.is_empty()
        {
            self.unwait(car);
            return self.park(car);
        }
        let lane = self.order.lane(&entry.facts).min(PRIORITY_MAX);
        let update = HeadUpdate::of(&entry.facts);
        self.unwait(car);
        self.reservoirs.lanes[usize::from(lane)].may_hold = true;
        self.note(Note::Spilled(lane));
        self.publish(car, Place::Lane(lane), update, Pending::Moved(car));
    }

    pub(crate) fn park(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let (id, update) = (entry.facts.id.clone(), HeadUpdate::of(&entry.facts));
        self.note(Note::Parked(id));
        self.publish(car, Place::Parked, update, Pending::Moved(car));
    }

    /// Reads the backlog while there is room: the highest lane that may hold something.
    pub(crate) fn refill(&mut self) {
        let (tasks, bytes) = (self.classes.waiting(), self.classes.waiting_bytes());
        let three_quarters = |n: usize| n - n / 4;
        let has_room = tasks < three_quarters(self.settings.window_tasks)
            && bytes < three_quarters(self.settings.window_bytes);
        let is_full = tasks >= self.settings.window_tasks || bytes >= self.settings.window_bytes;
        let now = self.now;
        let probed_at = self.reservoirs.probed_at.filter(|&at| now.since(at) < PROBE_INTERVAL);
        let probed_at = *self.reservoirs.probed_at.insert(probed_at.unwrap_or(now));
        let is_probing = now.since(probed_at) < PROBE;
        for lane in &mut self.reservoirs.lanes {
            if lane.is_read && lane.held == 0 && now.since(lane.heard_at) >= EMPTY_AFTER {
                lane.may_hold = false;
            }
            // A broker that was slow looks like an empty lane: nothing stays behind for good.
            lane.may_hold |= is_probing;
        }
        let highest = self.reservoirs.lanes.iter().rposition(|lane| lane.may_hold);
        for number in 0..self.reservoirs.lanes.len() {
            let lane = &mut self.reservoirs.lanes[number];
            let is_wanted = lane.may_hold && !is_full && (is_probing || highest == Some(number));
            let is_read = is_wanted && (lane.is_read || has_room);
            if is_read != lane.is_read {
                lane.is_read = is_read;
                lane.heard_at = now;
                let from = Reservoir::Lane(u8::try_from(number).unwrap_or(PRIORITY_MAX));
                self.effect(Effect::Fill { from, is_on: is_read });
            }
        }
        self.refill_parked(has_room, is_full);
    }

    fn refill_parked(&mut self, has_room: bool, is_full: bool) {
        let reservoirs = &mut self.reservoirs;
        if self.now.since(reservoirs.parked_passed_at) >= PARKED_INTERVAL {
            reservoirs.is_parked_wanted = true;
        }
        let is_wanted = reservoirs.is_parked_wanted && !is_full;
        let is_read = is_wanted && (reservoirs.is_parked_read || has_room);
        if is_read != reservoirs.is_parked_read {
            reservoirs.is_parked_read = is_read;
            self.effect(Effect::Fill { from: Reservoir::Parked, is_on: is_read });
        }
    }

    /// The parked queue has been read once from end to end.
    pub(crate) fn parked_passed(&mut self) {
        self.reservoirs.is_parked_wanted = false;
        self.reservoirs.parked_passed_at = self.now;
    }
}

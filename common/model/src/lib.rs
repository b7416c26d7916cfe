//! Ids, states and the transition table of Taskyard tasks.

//! The dispatcher service of Taskyard.

//! The scheduler of Taskyard: decisions without I/O.

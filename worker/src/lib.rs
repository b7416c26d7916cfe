//! Run Taskyard tasks: a library for handlers in Rust, and a worker for programs.

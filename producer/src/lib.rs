//! Submit Taskyard tasks: a library, and the command line.

//! End-to-end tests, faults, demo and benchmarks of Taskyard on private servers.

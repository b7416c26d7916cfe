//! What Taskyard's processes must agree on: topology, wire formats, store, settings.

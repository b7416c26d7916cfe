//! Faults of real servers and programs under load: whatever is killed, frozen or emptied, every
//! confirmed submission ends as it should.
//!
//! Each test hurts servers of its own while a stream of submissions runs, and then asks the same
//! questions of all that was confirmed: see `ledger`.

mod ledger;
mod load;
mod scene;

mod broker;
mod leader;
mod poison_train;
mod queues;
mod redis;
mod two_lives;
mod worker;

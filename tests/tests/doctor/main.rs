//! `taskyard doctor`: every misconfiguration that it knows, produced on private servers.

mod patient;

mod healthy;
mod rabbitmq;
mod redis;
mod yard;

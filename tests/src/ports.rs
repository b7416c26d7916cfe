//! Free TCP ports on the loopback interface.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Ports below the ranges from which systems take the local end of outgoing connections (32768 on Linux,
/// 49152 on macOS): a client that reconnects in a loop while a server is down would otherwise
/// sooner or later be given that very port, and connect to itself.
const CANDIDATES: std::ops::Range<u16> = 10_000..32_000;

/// A port that nobody listens on and that this process has not given out before.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = rand::random_range(CANDIDATES);
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free && given.insert(port) {
            return port;
        }
    }
}

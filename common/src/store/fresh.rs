//! The first record of a task as one native command, several times cheaper than the script.
//!
//! `RESTORE` without `REPLACE` makes a key only where there is none: a compare-and-set from absent.
//! What it takes is what `DUMP` gives: the type, the fields as a listpack, the version of the format
//! and a checksum (Redis, `rdb.c` and `listpack.md`). Where a record is there already, or the command
//! is forbidden, the script decides.

use crc::{CRC_64_REDIS, Crc, Table};
use redis::{Cmd, RedisWrite, ServerError};
use taskyard_model::Transition;

use super::keys::Keys;
use super::record::FIELDS;
use super::script::{write_payload_key, write_task_key};
use super::{Change, Expect, Keep, PayloadOp, Value};

/// `RDB_TYPE_HASH_LISTPACK`.
const HASH_LISTPACK: u8 = 16;
/// Version 10 of the format: Redis 7.0 reads it and all later ones do.
const VERSION: [u8; 2] = [10, 0];
/// Longest text that is put in: a listpack is read from its front.
const VALUE_BYTES_MAX: usize = 1024;
static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Whether the change is one that makes a record where there is none, and small enough to be written
/// at once.
pub(super) fn is_fresh(change: &Change) -> bool {
    matches!(change.transition, Transition::Accept | Transition::AcceptDispatched)
        && change.expect == Expect::Any
        && change.fields.iter().all(|(_, value)| value.bytes() <= VALUE_BYTES_MAX)
}

/// How many commands [`commands`] makes of it.
pub(super) fn count(change: &Change) -> usize {
    1 + usize::from(matches!(change.payload, PayloadOp::Set(_)))
}

/// The payload, where none is kept yet (an earlier submission of the same id may be with a worker),
/// and then the record, where there is none: whoever dies between the two leaves no record that
/// lacks its payload.
pub(super) fn commands(change: &Change, keys: &Keys) -> impl Iterator<Item = Cmd> {
    let payload = match &change.payload {
        PayloadOp::Set(bytes) => {
            let mut set = Cmd::with_capacity(4, bytes.len() + 128);
            set.arg("SET");
            write_payload_key(&mut set, &change.id, keys);
            set.write_arg(bytes);
            set.arg("NX");
            Some(set)
        }
        PayloadOp::Keep | PayloadOp::Delete => None,
    };
    let record = dump(change);
    let mut restore = Cmd::with_capacity(4, record.len() + 128);
    restore.arg("RESTORE");
    write_task_key(&mut restore, &change.id, keys);
    match change.keep {
        Keep::Unchanged | Keep::Forever => restore.arg(0),
        Keep::For(duration) => restore.arg(Keep::ms(duration)),
    };
    restore.write_arg(&record);
    payload.into_iter().chain([restore])
}

/// Takes back a payload that was stored for a record that is not to be.
pub(super) fn undo(change: &Change, keys: &Keys) -> Cmd {
    let mut delete = Cmd::with_capacity(2, 128);
    delete.arg("DEL");
    write_payload_key(&mut delete, &change.id, keys);
    delete
}

/// Whether the script has to decide, and if so, whether that will be so for every task: the command
/// is forbidden or unknown.
pub(super) fn is_undecided(error: &ServerError) -> Option<bool> {
    match error.code() {
        "BUSYKEY" => Some(false),
        "NOPERM" | "ERR" => Some(true),
        _ => None,
    }
}

/// The record as `DUMP` would give it: every field there is, those that the change names, and `owed`
/// and the like that only some tasks have.
fn dump(change: &Change) -> Vec<u8> {
    let mut named: [Option<&Value>; FIELDS.len()] = [None; FIELDS.len()];
    let mut others: Vec<(&str, &Value)> = Vec::new();
    for (name, value) in &change.fields {
        match FIELDS.iter().position(|field| field == name) {
            Some(at) => named[at] = Some(value),
            None => {
                others.retain(|(other, _)| other != name);
                others.push((name, value));
            }
        }
    }
    let mut pack = Listpack::new();
    for (at, name) in FIELDS.iter().enumerate() {
        pack.text(name.as_bytes());
        match (*name, named[at]) {
            ("id", _) => pack.text(change.id.as_str().as_bytes()),
            ("state", _) => pack.text(change.state.map_or("", |state| state.as_str()).as_bytes()),
            (_, Some(value)) => pack.value(value),
            (name, None) if is_count(name) => pack.int(0),
            (_, None) => pack.text(b""),
        }
    }
    for (name, value) in others {
        pack.text(name.as_bytes());
        pack.value(value);
    }
    pack.finish()
}

/// Fields that are numbers from the start.
fn is_count(name: &str) -> bool {
    matches!(
        name,
        "priority" | "attempt" | "failures" | "losses" | "max_attempts" | "max_losses" | "progress"
    )
}

/// A dump of a hash in the making: a type, a length of 32 bits, and the listpack.
struct Listpack {
    bytes: Vec<u8>,
    entries: u16,
}

/// Where the listpack begins: after the type, the marker of a length of 32 bits, and the length.
const PACK_AT: usize = 6;
/// Its own length and the number of its entries.
const PACK_HEAD: usize = 6;

impl Listpack {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(768);
        bytes.resize(PACK_AT + PACK_HEAD, 0);
        Self { bytes, entries: 0 }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Int(number) => match i64::try_from(*number) {
                Ok(number) => self.int(number),
                Err(_) => self.text(number.to_string().as_bytes()),
            },
            other => self.text(other.as_bytes()),
        }
    }

    fn text(&mut self, text: &[u8]) {
        let begin = self.bytes.len();
        match text.len() {
            length @ ..64 => self.bytes.push(0x80 | length.to_le_bytes()[0]),
            length @ ..4_096 => {
                let [low, high, ..] = length.to_le_bytes();
                self.bytes.extend([0xE0 | high, low]);
            }
            length => {
                self.bytes.push(0xF0);
                self.bytes.extend(&length.to_le_bytes()[..4]);
            }
        }
        self.bytes.extend_from_slice(text);
        self.end_entry(begin);
    }

    /// In the shortest form, as Redis itself would write it.
    fn int(&mut self, number: i64) {
        let begin = self.bytes.len();
        let bytes = number.to_le_bytes();
        match number {
            0..=127 => self.bytes.push(bytes[0]),
            128..=4_095 => self.bytes.extend([0xC0 | bytes[1], bytes[0]]),
            4_096..=0x7FFF => self.wide(0xF1, &bytes[..2]),
            0x8000..=0x007F_FFFF => self.wide(0xF2, &bytes[..3]),
            0x0080_0000..=0x7FFF_FFFF => self.wide(0xF3, &bytes[..4]),
            _ => self.wide(0xF4, &bytes),
        }
        self.end_entry(begin);
    }

    fn wide(&mut self, form: u8, bytes: &[u8]) {
        self.bytes.push(form);
        self.bytes.extend_from_slice(bytes);
    }

    /// An entry ends with its length, seven bits a byte, readable from behind.
    fn end_entry(&mut self, begin: usize) {
        self.entries += 1;
        let length = self.bytes.len() - begin;
        let low = |shift: u32| (length >> shift).to_le_bytes()[0] & 0x7F;
        match length {
            ..128 => self.bytes.push(low(0)),
            _ => self.bytes.extend([low(7), low(0) | 0x80]),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0xFF);
        let length = u32::try_from(self.bytes.len() - PACK_AT).unwrap_or(u32::MAX);
        self.bytes[0] = HASH_LISTPACK;
        self.bytes[1] = 0x80;
        self.bytes[2..6].copy_from_slice(&length.to_be_bytes());
        self.bytes[6..10].copy_from_slice(&length.to_le_bytes());
        self.bytes[10..12].copy_from_slice(&self.entries.to_le_bytes());
        self.bytes.extend(VERSION);
        let checksum = CHECKSUM.checksum(&self.bytes);
        self.bytes.extend(checksum.to_le_bytes());
        self.bytes
    }
}

//! Trains: many tasks or reports in one message between our own programs.
//!
//! ```text
//! "TYT1"  then for each car:  u32 length of head, head (JSON),  u32 length of body, body
//! ```
//!
//! Lengths are big-endian. A train carries what has already arrived and never waits to fill.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `content_type` of a message that carries tasks.
pub const TASKS: &str = "application/vnd.taskyard.train";
/// `content_type` of a message that carries reports.
pub const REPORTS: &str = "application/vnd.taskyard.reports";
/// `content_type` of a marker: a message that only shows how far a queue has been read.
pub const MARKER: &str = "application/vnd.taskyard.marker";
/// `content_type` of a bulk submission.
pub const BULK: &str = "application/vnd.taskyard.bulk";

/// Cars that one train carries at most: beyond it nothing is gained (measured 64 against 256), and
/// a lost train costs more.
pub const CARS_MAX: usize = 64;
/// Bytes from which a train is closed; a larger task travels alone.
pub const BYTES_MAX: usize = 256 * 1024;

const MAGIC: &[u8; 4] = b"TYT1";

/// Bytes that are no train.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The first four bytes are not `TYT1`.
    #[error("it does not begin with TYT1")]
    Magic,
    /// A length points behind the end.
    #[error("car {0} is cut off")]
    CutOff(usize),
    /// A head is not the JSON it should be.
    #[error("the head of car {0} cannot be read: {1}")]
    Head(usize, String),
}

/// Builds a train car by car.
#[derive(Debug)]
pub struct TrainWriter {
    buffer: BytesMut,
    cars: usize,
}

impl Default for TrainWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl TrainWriter {
    /// An empty train.
    #[must_use]
    pub fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(512);
        buffer.put_slice(MAGIC);
        Self { buffer, cars: 0 }
    }

    /// Couples a car.
    ///
    /// # Panics
    /// If head or body has 4 GiB or more; payloads are limited long before.
    pub fn push(&mut self, head: &impl Serialize, body: &[u8]) {
        let length_at = self.buffer.len();
        self.buffer.put_u32(0);
        serde_json::to_writer((&mut self.buffer).writer(), head).expect("heads are plain data");
        let length = self.buffer.len() - length_at - 4;
        let length = u32::try_from(length).expect("heads are small");
        self.buffer[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        self.buffer.put_u32(u32::try_from(body.len()).expect("payloads are limited"));
        self.buffer.put_slice(body);
        self.cars += 1;
    }

    /// Couples the cars of another train.
    pub fn couple(&mut self, train: &[u8], cars: usize) {
        self.buffer.put_slice(train.get(MAGIC.len()..).unwrap_or_default());
        self.cars += cars;
    }

    /// Number of cars.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cars
    }

    /// Whether there is no car yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cars == 0
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a body of this size may still be coupled.
    #[must_use]
    pub fn has_room_for(&self, body_bytes: usize) -> bool {
        self.cars < CARS_MAX && (self.cars == 0 || self.bytes() + body_bytes < BYTES_MAX)
    }

    /// The message body.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}

/// Splits a train into the raw heads and bodies of its cars; nothing is copied.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn split(train: &Bytes) -> Result<Vec<(Bytes, Bytes)>, TrainError> {
    if train.get(..4) != Some(MAGIC) {
        return Err(TrainError::Magic);
    }
    let mut rest = train.slice(4..);
    let mut cars = Vec::new();
    while !rest.is_empty() {
        let mut part = || {
            let length = rest.get(..4)?.try_into().ok().map(u32::from_be_bytes)? as usize;
            let end = 4usize.checked_add(length)?;
            let part = (rest.len() >= end).then(|| rest.slice(4..end))?;
            rest = rest.slice(end..);
            Some(part)
        };
        match (part(), part()) {
            (Some(head), Some(body)) => cars.push((head, body)),
            _ => return Err(TrainError::CutOff(cars.len())),
        }
    }
    Ok(cars)
}

/// Reads a train whose heads are all of one type.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read<H: DeserializeOwned>(train: &Bytes) -> Result<Vec<(H, Bytes)>, TrainError> {
    let cars = split(train)?.into_iter().enumerate();
    cars.map(|(i, (head, body))| match serde_json::from_slice(&head) {
        Ok(head) => Ok((head, body)),
        Err(error) => Err(TrainError::Head(i, error.to_string())),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Head;

    fn head() -> Head {
        Head::new("t1".parse().unwrap(), "echo".parse().unwrap())
    }

    #[test]
    fn a_train_comes_apart_as_it_was_coupled() {
        let mut train = TrainWriter::new();
        let mut second = head();
        second.attempt = 3;
        second.requires = "gpu".parse().unwrap();
        second.backoff = Some("fixed:10".parse().unwrap());
        train.push(&head(), b"one");
        train.push(&second, b"");
        let cars = read::<Head>(&train.finish()).unwrap();
        assert_eq!(cars, [(head(), Bytes::from("one")), (second, Bytes::new())]);
    }

    #[test]
    fn the_first_train_ever_written_is_still_understood() {
        let sample = b"TYT1\0\0\0\x16{\"id\":\"t1\",\"k\":\"echo\"}\0\0\0\x03one";
        let cars = read::<Head>(&Bytes::from_static(sample)).unwrap();
        assert_eq!(cars, [(head(), Bytes::from("one"))]);
    }

    #[test]
    fn broken_trains_are_refused() {
        let whole = b"TYT1\0\0\0\x02{}\0\0\0\x03one";
        assert_eq!(split(&Bytes::from_static(b"TYT")), Err(TrainError::Magic));
        for end in 5..whole.len() {
            assert_eq!(
                split(&Bytes::from_static(&whole[..end])),
                Err(TrainError::CutOff(0)),
                "{end}"
            );
        }
        assert!(matches!(read::<Head>(&Bytes::from_static(whole)), Err(TrainError::Head(0, _))));
        let huge = b"TYT1\xff\xff\xff\xff";
        assert_eq!(split(&Bytes::from_static(huge)), Err(TrainError::CutOff(0)));
    }
}

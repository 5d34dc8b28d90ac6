//! A byte stream through its framer into batches of records: the loop that files and standard input share.

use std::io::{ErrorKind, Read};

use super::feed::{Dropped, Feeder};
use crate::format::{BadRecord, Framer, Frames};
use crate::limits::{BATCH_BYTES, BATCH_ROWS};

/// Bytes that one read asks for.
pub(super) const READ_BYTES: usize = 1 << 20;

/// A partition's records on their way from bytes to batches.
pub(super) struct Framing {
    partition: u32,
    framer: Framer,
    frames: Frames,
}

/// Records that are ready to be sent.
pub(super) struct Framed {
    pub(super) frames: Frames,
    pub(super) bad: Vec<BadRecord>,
    /// position in the stream after them
    pub(super) next: u64,
}

impl Framing {
    pub(super) fn new(partition: u32, framer: Framer, frames: Frames) -> Self {
        Self { partition, framer, frames }
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition
    }

    /// Takes bytes in until a batch is full; gives back those that are left.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let consumed = self.framer.push(bytes, &mut self.frames);
        bytes.get(consumed..).unwrap_or_default()
    }

    /// Whether the next batch is large enough to go.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_ROWS || self.frames.bytes.len() >= BATCH_BYTES
    }

    /// As [`Framer::held_bytes`].
    pub(super) fn held_bytes(&self) -> usize {
        self.framer.held_bytes()
    }

    /// As [`Framer::is_inside_record`].
    pub(super) fn is_inside_record(&self) -> bool {
        self.framer.is_inside_record()
    }

    /// As [`Framer::abandon`].
    pub(super) fn abandon(&mut self, reason: &str) {
        self.framer.abandon(reason, &self.frames);
    }

    /// The records so far, `next` in their place; none if there are none.
    pub(super) fn take(&mut self, next: impl FnOnce() -> Frames) -> Option<Framed> {
        let bad = self.framer.take_bad();
        if self.frames.is_empty() && bad.is_empty() {
            return None;
        }
        let position = self.framer.resume_position();
        Some(Framed { frames: std::mem::replace(&mut self.frames, next()), bad, next: position })
    }

    /// The bytes have ended: a last record without its end counts.
    pub(super) fn finish(mut self) -> Option<Framed> {
        let last = self.framer.finish(&mut self.frames);
        let next = self.framer.resume_position();
        let none = Framed { frames: Frames::default(), bad: Vec::new(), next };
        let mut framed = self.take(Frames::default).unwrap_or(none);
        framed.bad.extend(last);
        (!framed.frames.is_empty() || !framed.bad.is_empty()).then_some(framed)
    }
}

/// When a reader hands over what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// full batches: the bytes are all there, nobody waits for them
    WhenFull,
    /// after each read: the next may be long in coming
    EveryRead,
}

/// Why reading stopped early.
pub(super) enum PumpError {
    Read(std::io::Error),
    Dropped,
}

impl From<Dropped> for PumpError {
    fn from(_: Dropped) -> Self {
        Self::Dropped
    }
}

/// Reads to the end, frames and sends. `buffer` gives the size of a read.
pub(super) fn pump(
    mut input: impl Read,
    buffer: &mut [u8],
    mut framing: Framing,
    cut: Cut,
    feeder: &Feeder,
) -> Result<(), PumpError> {
    let partition = framing.partition();
    let send = |framed: Framed| feeder.send(feeder.records(partition, framed.frames, framed.bad, framed.next));
    loop {
        let count = match input.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(PumpError::Read(error)),
        };
        let mut left = buffer.get(..count).unwrap_or_default();
        while !left.is_empty() {
            left = framing.push(left);
            if framing.is_full() || !left.is_empty() {
                framing.take(|| feeder.spare()).map(send).transpose()?;
            }
        }
        if cut == Cut::EveryRead {
            framing.take(|| feeder.spare()).map(send).transpose()?;
        }
    }
    framing.finish().map(send).transpose()?;
    Ok(())
}

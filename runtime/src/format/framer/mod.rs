//! Cuts a byte stream into records: lines, CSV records, length-prefixed records, MessagePack values.
//!
//! The records and the bad ones are the same however the stream is cut into chunks. At most one unfinished record is
//! held, and of one that is too large only the start: a missing line end or a lying length costs no memory. After a
//! record that is too large the next one is found again, except where MessagePack itself is broken: its values have no
//! separators, so what follows cannot be told apart and is dropped.

mod cut;

use super::decode::{BAD_RECORD_BYTES, BadRecord};
use super::frames::Frames;
use super::spec::{Format, Framing};
use crate::limits::{BATCH_BYTES, BATCH_ROWS, RECORD_BYTES_MAX};
use cut::{Cut, Step};

/// Memory that is kept for the next unfinished record.
const HELD_BYTES_KEPT: usize = 64 << 10;

/// Cuts a byte stream into records.
pub struct Framer {
    cut: Cut,
    /// an empty line is a record
    keep_empty: bool,
    /// the unfinished record, or its start if it is too large
    held: Vec<u8>,
    /// bytes of the unfinished record, those not held included
    length: usize,
    /// bytes of the stream that the unfinished record has taken, prefix included
    taken: usize,
    /// position in the stream of the unfinished or the next record
    start: u64,
    bad: Vec<BadRecord>,
    record_bytes_max: usize,
}

impl Framer {
    /// A framer at `start` of a stream, where a record begins.
    pub fn starting_at(format: Format, framing: Framing, start: u64) -> Self {
        Self { start, ..Self::new(format, framing) }
    }

    /// A framer at the start of a stream.
    pub fn new(format: Format, framing: Framing) -> Self {
        Self {
            cut: Cut::new(format, framing),
            keep_empty: framing == Framing::Length || matches!(format, Format::Text | Format::Raw),
            held: Vec::new(),
            length: 0,
            taken: 0,
            start: 0,
            bad: Vec::new(),
            record_bytes_max: RECORD_BYTES_MAX,
        }
    }

    /// Feeds a piece of the stream and returns how many of its bytes were taken: all, unless `frames` became full
    /// ([`BATCH_ROWS`], [`BATCH_BYTES`]). Feed the rest again after the frames have been cleared.
    ///
    /// Complete records go to `frames`; their offset is the position in the stream of their first byte, which for
    /// length-prefixed records is that of the prefix.
    pub fn push(&mut self, chunk: &[u8], frames: &mut Frames) -> usize {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty() && !full(frames)) {
            let Step { payload, taken, whole, lost } = self.cut.step(rest, self.length, self.record_bytes_max);
            let piece = rest.get(payload).unwrap_or_default();
            at += taken;
            self.taken += taken;
            if whole {
                self.end(piece, true, frames);
            } else {
                self.hold(piece);
            }
            if lost {
                let reason = "expected a MessagePack value, got the byte 0xc1; the rest of the input is dropped";
                self.give_up(reason.into(), frames);
            }
        }
        at
    }

    /// Ends the stream: a last line without a line end is a record; an unfinished record of another kind, or a last
    /// line that is too large, is returned as a bad one.
    pub fn finish(&mut self, frames: &mut Frames) -> Option<BadRecord> {
        if self.taken == 0 {
            return None;
        }
        let before = self.bad.len();
        if self.cut.ends_with_input() {
            self.end(&[], false, frames);
        } else {
            let reason = format!(
                "expected the rest of {}, got the end of the input after {} bytes",
                self.cut.name(),
                self.taken
            );
            self.give_up(reason, frames);
        }
        self.cut.restart();
        self.bad.drain(before..).next()
    }

    /// Takes the records that were too large or could not be told apart.
    pub fn take_bad(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.bad)
    }

    /// Where to continue after a restore: the position in the stream of the unfinished or the next record. All records
    /// before it have been pushed.
    pub fn position(&self) -> u64 {
        self.start
    }

    /// Memory that an unfinished record holds, or a finished one has left.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Whether a record has begun that has not ended.
    pub fn is_inside_record(&self) -> bool {
        self.taken > 0
    }

    /// The rest of the record that has begun will not come: it is a bad one.
    pub fn abandon(&mut self, reason: &str, frames: &Frames) {
        if self.taken > 0 {
            self.give_up(reason.to_owned(), frames);
            self.cut.restart();
        }
    }

    /// As [`Framer::position`], for who goes on with a new framer: `u64::MAX` where nothing more can be found in the stream.
    pub fn resume_position(&self) -> u64 {
        if matches!(self.cut, Cut::Lost) { u64::MAX } else { self.start }
    }

    /// Adds to the unfinished record; of one that is too large only the start is held.
    fn hold(&mut self, piece: &[u8]) {
        self.length = self.length.saturating_add(piece.len());
        if self.length <= self.record_bytes_max {
            self.held.extend_from_slice(piece);
            return;
        }
        let room = BAD_RECORD_BYTES.saturating_sub(self.held.len());
        self.held.extend_from_slice(piece.get(..room).unwrap_or(piece));
        self.held.truncate(BAD_RECORD_BYTES);
        self.held.shrink_to(BAD_RECORD_BYTES);
    }

    /// Ends the unfinished record with `piece`; `separator`: it ended at a separator, not with the input.
    fn end(&mut self, piece: &[u8], separator: bool, frames: &mut Frames) {
        if self.length == 0 && piece.len() <= self.record_bytes_max {
            let record = self.cut.trim(piece, separator);
            if self.keep_empty || !record.is_empty() {
                frames.push(record, self.start);
            }
            self.next();
            return;
        }
        self.hold(piece);
        if self.length > self.record_bytes_max {
            let reason = format!("expected a record of at most {} bytes, got {}", self.record_bytes_max, self.length);
            self.give_up(reason, frames);
            return;
        }
        let record = self.cut.trim(&self.held, separator);
        if self.keep_empty || !record.is_empty() {
            frames.push(record, self.start);
        }
        self.next();
    }

    /// Ends the unfinished record as a bad one.
    fn give_up(&mut self, reason: String, frames: &Frames) {
        self.bad.push(BadRecord::new(frames.len(), self.start, &self.held, reason));
        self.next();
    }

    fn next(&mut self) {
        self.start += self.taken as u64;
        self.taken = 0;
        self.length = 0;
        self.held.clear();
        self.held.shrink_to(HELD_BYTES_KEPT);
    }
}

/// Whether `frames` hold a full batch.
fn full(frames: &Frames) -> bool {
    frames.len() >= BATCH_ROWS || frames.bytes.len() >= BATCH_BYTES
}

#[cfg(test)]
mod tests;

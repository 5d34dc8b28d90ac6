//! Where a record ends: one small state machine a framing, fed with any pieces of the stream.

use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::format::msgpack::{Shape, head};
use crate::format::spec::{Format, Framing};

/// Bytes of a length prefix.
const PREFIX_BYTES: usize = 4;

/// How records are told apart, and where in a record the stream is.
pub(super) enum Cut {
    /// by `\n`
    Lines,
    /// by `\n` outside of quotes
    Csv(Quotes),
    /// by a length before each; the bytes of it that have come, then the bytes of the record still to come
    Length { prefix: Vec<u8>, left: usize },
    /// by the values' own lengths
    Msgpack(Walk),
    /// nothing more can be found in this stream
    Lost,
}

/// What a piece of the stream is to the unfinished record.
pub(super) struct Step {
    /// the part of the piece that belongs to the record
    pub(super) payload: Range<usize>,
    /// bytes of the piece that are done with, at least one
    pub(super) taken: usize,
    /// the record ends here
    pub(super) whole: bool,
    /// no further record can be found
    pub(super) lost: bool,
}

impl Step {
    fn go_on(payload: Range<usize>, taken: usize) -> Self {
        Self { payload, taken, whole: false, lost: false }
    }

    fn whole(payload: Range<usize>, taken: usize) -> Self {
        Self { payload, taken, whole: true, lost: false }
    }
}

impl Cut {
    pub(super) fn new(format: Format, framing: Framing) -> Self {
        match (framing, format) {
            (Framing::Length, _) => Self::Length { prefix: Vec::new(), left: 0 },
            (Framing::Lines, Format::Msgpack) => Self::Msgpack(Walk::default()),
            (Framing::Lines, Format::Csv) => Self::Csv(Quotes::FieldStart),
            // no bytes come this way as Parquet: its decoder refuses it
            (Framing::Lines, Format::Json | Format::Text | Format::Raw | Format::Parquet) => Self::Lines,
        }
    }

    /// What an unfinished record is called in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Lines | Self::Csv(_) => "a line",
            Self::Length { .. } => "a length-prefixed record",
            Self::Msgpack(_) | Self::Lost => "a MessagePack value",
        }
    }

    /// Whether the end of the input ends a record.
    pub(super) fn ends_with_input(&self) -> bool {
        matches!(self, Self::Lines | Self::Csv(_))
    }

    /// Goes back to the start of a record.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Lines | Self::Lost => {}
            Self::Csv(quotes) => *quotes = Quotes::FieldStart,
            Self::Length { prefix, left } => {
                prefix.clear();
                *left = 0;
            }
            Self::Msgpack(walk) => *walk = Walk::default(),
        }
    }

    /// The record without the `\r` of its line end.
    pub(super) fn trim<'a>(&self, record: &'a [u8], separator: bool) -> &'a [u8] {
        match self {
            Self::Lines | Self::Csv(_) if separator => record.strip_suffix(b"\r").unwrap_or(record),
            _ => record,
        }
    }

    /// Goes on over `rest`, the next bytes of the stream and at least one, in a record that has `length` bytes so far.
    pub(super) fn step(&mut self, rest: &[u8], length: usize, record_bytes_max: usize) -> Step {
        match self {
            Self::Lines => line(rest),
            // quotes mean nothing once the record is too large: one left open would swallow the stream
            Self::Csv(_) if length > record_bytes_max => {
                self.restart();
                line(rest)
            }
            Self::Csv(quotes) => {
                let near = rest.get(..=record_bytes_max - length).unwrap_or(rest);
                match quotes.record_end(near) {
                    Some(end) => {
                        *quotes = Quotes::FieldStart;
                        Step::whole(0..end, end + 1)
                    }
                    None => Step::go_on(0..near.len(), near.len()),
                }
            }
            Self::Length { prefix, left } => prefixed(prefix, left, rest),
            Self::Msgpack(walk) => match walk.on(rest) {
                Walked::Inside => Step::go_on(0..rest.len(), rest.len()),
                Walked::Whole(end) => {
                    *walk = Walk::default();
                    Step::whole(0..end, end)
                }
                Walked::Never(at) => {
                    *self = Self::Lost;
                    Step { lost: true, ..Step::go_on(0..at, at) }
                }
            },
            Self::Lost => Step::go_on(0..0, rest.len()),
        }
    }
}

fn line(rest: &[u8]) -> Step {
    match memchr(b'\n', rest) {
        Some(end) => Step::whole(0..end, end + 1),
        None => Step::go_on(0..rest.len(), rest.len()),
    }
}

fn prefixed(prefix: &mut Vec<u8>, left: &mut usize, rest: &[u8]) -> Step {
    let missing = PREFIX_BYTES.saturating_sub(prefix.len());
    let head = rest.get(..missing).unwrap_or(rest);
    prefix.extend_from_slice(head);
    let Some(&length) = prefix.first_chunk::<PREFIX_BYTES>() else { return Step::go_on(0..0, head.len()) };
    if missing > 0 {
        *left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    }
    let here = (*left).min(rest.len() - head.len());
    *left -= here;
    let end = head.len() + here;
    if *left > 0 {
        return Step::go_on(head.len()..end, end);
    }
    prefix.clear();
    Step::whole(head.len()..end, end)
}

/// Where in a CSV record the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// at the start of a field: a quote here begins a quoted field
    FieldStart,
    /// in a field without quotes, or after a closing quote
    Plain,
    /// inside quotes
    Quoted,
    /// after a quote inside quotes: the closing one, or the first of two
    QuoteInQuoted,
}

impl Quotes {
    /// The line end that ends the record, if it is in `bytes`.
    fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            if *self == Self::Quoted {
                at += memchr(b'"', rest)? + 1;
                *self = Self::QuoteInQuoted;
                continue;
            }
            let opens = matches!(self, Self::FieldStart | Self::QuoteInQuoted);
            let Some(found) = memchr2(b'\n', b'"', rest) else {
                *self = if rest.last() == Some(&b',') { Self::FieldStart } else { Self::Plain };
                return None;
            };
            if rest.get(found) == Some(&b'\n') {
                return Some(at + found);
            }
            let opens = if found == 0 { opens } else { rest.get(found - 1) == Some(&b',') };
            *self = if opens { Self::Quoted } else { Self::Plain };
            at += found + 1;
        }
    }
}

/// How far the values of a MessagePack record have been walked, by their markers and without recursion.
pub(super) struct Walk {
    /// values still to come until the record is whole
    values: u64,
    /// bytes still to come of the value before them
    bytes: usize,
    /// the start of the next value's head, of at most nine bytes, where a piece ended in it
    head: Vec<u8>,
}

impl Default for Walk {
    fn default() -> Self {
        Self { values: 1, bytes: 0, head: Vec::new() }
    }
}

/// Where a walk has come to.
enum Walked {
    /// the piece ends inside the record
    Inside,
    /// the record ends before this byte of the piece
    Whole(usize),
    /// this is no MessagePack from before this byte of the piece on
    Never(usize),
}

impl Walk {
    fn on(&mut self, rest: &[u8]) -> Walked {
        let mut at = 0;
        loop {
            let here = self.bytes.min(rest.len() - at);
            self.bytes -= here;
            at += here;
            if self.bytes > 0 {
                return Walked::Inside;
            }
            if self.values == 0 {
                return Walked::Whole(at);
            }
            let mut value = None;
            if self.head.is_empty() {
                value = rest.get(at..).and_then(head);
            }
            if value.is_none() {
                let Some(&byte) = rest.get(at) else { return Walked::Inside };
                self.head.push(byte);
                at += 1;
                value = head(&self.head);
            }
            let Some(value) = value else { continue };
            self.values = (self.values - 1).saturating_add(value.children);
            self.bytes = value.size.saturating_sub(self.head.len());
            self.head.clear();
            if value.shape == Shape::Never {
                return Walked::Never(rest.len().min(at + 1));
            }
        }
    }
}

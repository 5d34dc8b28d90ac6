//! Batches to the bytes of a stream of records.

use super::{SinkContext, SinkError};
use crate::format::{Encoder, Format, Frames};
use crate::record::Batch;

/// Encodes batches one after the other.
pub(super) struct Records {
    sink_name: String,
    encoder: Encoder,
    frames: Frames,
    /// `\n` after each record; msgpack says itself where a record ends, and raw bytes stay as they are
    newlines: bool,
}

impl Records {
    pub(super) fn new(context: &SinkContext) -> Result<Self, SinkError> {
        let encoder = Encoder::new(context.format, &context.schema)
            .map_err(|error| SinkError::Encoder { sink_name: context.name.clone(), error })?;
        let newlines = match context.format {
            Format::Json | Format::Csv | Format::Text => true,
            Format::Msgpack | Format::Raw | Format::Parquet => false,
        };
        Ok(Self { sink_name: context.name.clone(), encoder, frames: Frames::default(), newlines })
    }

    /// The rows as records, one each.
    pub(super) fn encode(&mut self, batch: &Batch) -> Result<&Frames, SinkError> {
        self.frames.clear();
        match self.encoder.encode(batch.columns(), &mut self.frames) {
            Ok(()) => Ok(&self.frames),
            Err(error) => Err(SinkError::Encoder { sink_name: self.sink_name.clone(), error }),
        }
    }

    /// The records of the last batch that was encoded.
    #[cfg(feature = "kafka")]
    pub(super) fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Appends the rows to a stream of records.
    pub(super) fn append(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SinkError> {
        let newlines = self.newlines;
        let frames = self.encode(batch)?;
        if !newlines {
            out.extend_from_slice(&frames.bytes);
            return Ok(());
        }
        out.reserve(frames.bytes.len() + frames.len());
        for record in 0..frames.len() {
            out.extend_from_slice(frames.get(record));
            out.push(b'\n');
        }
        Ok(())
    }
}

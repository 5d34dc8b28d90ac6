//! Framed bytes to rows with an event time each.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use arrow_select::filter::filter_record_batch;

use super::{SourceContext, SourceError};
use crate::format::{BadRecord, Decoded, Decoder, Frames};
use crate::record::{Batch, EventTime, NO_EVENT_TIME};

/// Decodes the records of one subtask.
pub(super) struct RowDecoder {
    source_name: String,
    decoder: Decoder,
    event_time: Option<usize>,
}

/// Event time of records that have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherwiseTime {
    /// [`NO_EVENT_TIME`]
    None,
    /// when the bytes came, ms
    Arrival(EventTime),
}

impl RowDecoder {
    pub(super) fn new(context: &SourceContext, csv_header: bool) -> Result<Self, SourceError> {
        let source_name = context.name.clone();
        let Some(format) = context.format else { return Err(SourceError::NoFormat { source_name }) };
        match Decoder::new(format, &context.schema, &context.wanted, csv_header) {
            Ok(decoder) => Ok(Self { source_name, decoder, event_time: context.event_time }),
            Err(error) => Err(SourceError::Decoder { source_name, error }),
        }
    }

    /// Takes the records out of `frames`. Bad records are added to `bad`.
    pub(super) fn decode(
        &mut self,
        frames: &mut Frames,
        otherwise: OtherwiseTime,
        bad: &mut Vec<BadRecord>,
    ) -> Result<Batch, SourceError> {
        let Decoded { columns, origin, bad: undecoded } = self.decoder.decode(frames);
        bad.extend(undecoded);
        let timed = match self.event_time {
            Some(index) => self.times_of_column(columns, index, origin.as_deref(), frames, bad),
            None => {
                let times = record_times(&frames.times, columns.num_rows(), origin.as_deref(), otherwise);
                Ok((columns, times))
            }
        };
        let internal = |reason: String| SourceError::Internal { source_name: self.source_name.clone(), reason };
        let (columns, times) = timed.map_err(internal)?;
        Batch::new(columns, times).ok_or_else(|| internal("columns and times differ in length".into()))
    }

    /// Event times from column `index`. Rows that are null there leave the batch as bad records.
    fn times_of_column(
        &self,
        columns: RecordBatch,
        index: usize,
        origin: Option<&[u32]>,
        frames: &Frames,
        bad: &mut Vec<BadRecord>,
    ) -> Result<(RecordBatch, ScalarBuffer<EventTime>), String> {
        let Some(column) = columns.columns().get(index) else {
            return Err(format!("event time is column {index} of {}", columns.num_columns()));
        };
        if column.null_count() == 0 {
            let times = time_values(column)?;
            return Ok((columns, times));
        }
        let present = BooleanArray::new(
            column
                .logical_nulls()
                .map_or_else(|| arrow_buffer::BooleanBuffer::new_set(column.len()), |nulls| nulls.into_inner()),
            None,
        );
        let name = columns.schema_ref().field(index).name().clone();
        for row in (0..columns.num_rows()).filter(|row| !present.value(*row)) {
            let record = origin.and_then(|origin| origin.get(row).copied()).unwrap_or(row as u32);
            bad.push(BadRecord {
                index: record,
                offset: frames.offsets.get(record as usize).copied().unwrap_or_default(),
                bytes: frames.get(record as usize).to_vec(),
                reason: format!("event time `{name}` is missing or null; expected milliseconds since 1970"),
            });
        }
        let columns = filter_record_batch(&columns, &present).map_err(|error| error.to_string())?;
        let times = time_values(columns.column(index))?;
        Ok((columns, times))
    }
}

/// A column's values as event times.
pub(super) fn time_values(column: &dyn Array) -> Result<ScalarBuffer<EventTime>, String> {
    if let Some(values) = column.as_primitive_opt::<TimestampMillisecondType>() {
        return Ok(values.values().clone());
    }
    match column.as_primitive_opt::<Int64Type>() {
        Some(values) => Ok(values.values().clone()),
        None => Err(format!("event time is a column of type {}", column.data_type())),
    }
}

/// Event times that came with the records, gathered for those that became rows.
fn record_times(
    times: &[EventTime],
    rows: usize,
    origin: Option<&[u32]>,
    otherwise: OtherwiseTime,
) -> ScalarBuffer<EventTime> {
    let otherwise = match otherwise {
        OtherwiseTime::None => NO_EVENT_TIME,
        OtherwiseTime::Arrival(time_ms) => time_ms,
    };
    let time = |record: usize| times.get(record).copied().filter(|time| *time != NO_EVENT_TIME).unwrap_or(otherwise);
    match origin {
        _ if times.is_empty() => vec![otherwise; rows].into(),
        None => (0..rows).map(time).collect(),
        Some(origin) => origin.iter().map(|record| time(*record as usize)).collect(),
    }
}

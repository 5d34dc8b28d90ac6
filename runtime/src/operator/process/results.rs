//! What a processor's calls put out, on its way to the outputs.

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::bug;
use crate::operator::OperatorError;
use crate::record::{Batch, EventTime, NO_EVENT_TIME, Watermark};

/// Batches of the main output, and of each further output of the guest.
#[derive(Default)]
pub(super) struct Results {
    pub(super) main: Vec<Batch>,
    pub(super) sides: Vec<(usize, Batch)>,
}

/// The rows with the times of what they came from; nothing where there are none.
pub(super) fn with_times(rows: RecordBatch, origin: &[u32], times: &[i64]) -> Result<Option<Batch>, OperatorError> {
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let times = origin.iter().map(|from| times.get(*from as usize).copied().unwrap_or(NO_EVENT_TIME));
    Batch::new(rows, times.collect()).map(Some).ok_or_else(|| bug("rows and origins differ"))
}

/// The earliest event time that is not late.
pub(super) fn earliest_in_time(watermark: Watermark) -> EventTime {
    if watermark == Watermark::MIN { NO_EVENT_TIME } else { watermark.0.saturating_add(1) }
}

impl Results {
    /// What several rounds gave, by time; rows of one time stay in the order of the rounds.
    pub(super) fn in_order_of_time(self) -> Result<Self, OperatorError> {
        let mut ordered = Self { main: by_time(self.main)?.into_iter().collect(), sides: Vec::new() };
        let mut sides: Vec<(usize, Vec<Batch>)> = Vec::new();
        for (side, batch) in self.sides {
            match sides.iter_mut().find(|(known, _)| *known == side) {
                Some((_, batches)) => batches.push(batch),
                None => sides.push((side, vec![batch])),
            }
        }
        for (side, batches) in sides {
            ordered.sides.extend(by_time(batches)?.map(|batch| (side, batch)));
        }
        Ok(ordered)
    }
}

/// Batches as one, by time.
fn by_time(batches: Vec<Batch>) -> Result<Option<Batch>, OperatorError> {
    if batches.len() <= 1 {
        return Ok(batches.into_iter().next());
    }
    let arrow = |error: arrow_schema::ArrowError| bug(error.to_string());
    let Some(schema) = batches.first().map(|batch| batch.columns().schema()) else { return Ok(None) };
    let rows = concat_batches(&schema, batches.iter().map(Batch::columns)).map_err(arrow)?;
    let times: Vec<i64> = batches.iter().flat_map(|batch| batch.times().iter().copied()).collect();
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|row| times.get(*row as usize).copied());
    let times = order.iter().filter_map(|row| times.get(*row as usize).copied()).collect();
    let rows = take_record_batch(&rows, &UInt32Array::from(order)).map_err(arrow)?;
    Ok(Batch::new(rows, times))
}

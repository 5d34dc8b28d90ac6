//! What rows say themselves about event time: the watermarks of a column, or times and watermarks from a component.
//!
//! The component is a mapper, called with columns like any step, in the task of its source and under the source's
//! `on_error`; it is replaced at a barrier like any component. Its columns do not go on with the rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow_select::filter::{filter, filter_record_batch};

use super::change::Change;
use super::plan::Marks;
use super::task::{TaskError, Versions};
use crate::metrics::NodeCounts;
use crate::operator::{DeadRow, GuestStep, OnError, Operator, OperatorError, Output};
use crate::record::{Barrier, Batch, Schema, Watermark};
use crate::wasm::{ExactVersion, Guest, OperatorKind};

/// Finds the watermarks in the rows of one source task.
#[derive(Debug, Default)]
pub(super) struct Marker {
    column: Option<usize>,
    assigner: Option<Assigner>,
}

#[derive(Debug)]
struct Assigner {
    step: GuestStep,
    versions: Versions,
    /// columns of a row before the assigner's
    columns: usize,
    event_time: usize,
    watermark: Option<usize>,
    on_error: OnError,
    output: Output,
}

/// Rows with their times, and what they say.
#[derive(Debug, Default)]
pub(super) struct Marked {
    pub(super) batches: Vec<Batch>,
    /// the latest watermark among them
    pub(super) watermark: Option<Watermark>,
    pub(super) dead: Vec<DeadRow>,
    pub(super) skipped: u64,
}

impl Marker {
    /// For rows with the columns `schema`; `guest` and where its version is told, if there is an assigner.
    pub(super) fn new(marks: &Marks, schema: &Schema, guest: Option<(Guest, Versions)>, on_error: OnError) -> Self {
        let columns = schema.fields().len();
        let assigner = marks.assigner.as_ref().zip(guest).map(|(assigner, (guest, versions))| {
            let fields = schema.fields().iter().chain(assigner.outputs.fields()).cloned().collect::<Vec<_>>();
            let keep = (0..columns).collect();
            let output = Schema::new(fields);
            Assigner {
                step: GuestStep::new(guest, OperatorKind::Mapper, assigner.inputs.clone(), keep, output, on_error),
                versions,
                columns,
                event_time: columns + assigner.event_time,
                watermark: assigner.watermark.map(|watermark| columns + watermark),
                on_error,
                output: Output::default(),
            }
        });
        Self { column: marks.column, assigner }
    }

    /// Whether rows have watermarks of their own, so that none follow from their times.
    pub(super) fn is_punctuated(&self) -> bool {
        self.column.is_some() || self.assigner.as_ref().is_some_and(|assigner| assigner.watermark.is_some())
    }

    /// The assigner that runs.
    pub(super) fn version(&self) -> Option<ExactVersion> {
        self.assigner.as_ref()?.versions.all().first().map(|(_, of)| of.version)
    }

    /// Takes over the component that a barrier brings; `before` is what the source has counted so far.
    pub(super) async fn change(
        &mut self,
        barrier: &Barrier,
        (source, subtask): (&str, usize),
        before: NodeCounts,
    ) -> Result<(), TaskError> {
        let (Some(assigner), Some(change)) = (&mut self.assigner, barrier.change.downcast_ref::<Change>()) else {
            return Ok(());
        };
        if let Some(ballot) = change.ballot()
            && !ballot.verdict().await
        {
            return Ok(());
        }
        for (slot, version, replacement) in change.take(source, subtask) {
            let failed = |error| TaskError::Assigner { name: source.to_owned(), subtask, source: error };
            assigner.step.replace(slot, replacement).map_err(failed)?;
            assigner.versions.runs(slot, version, before);
        }
        Ok(())
    }

    /// Gives rows their times and finds the latest watermark in them.
    pub(super) fn mark(&mut self, batch: Batch) -> Result<Marked, OperatorError> {
        let Some(assigner) = &mut self.assigner else {
            let watermark = self.column.and_then(|column| batch.columns().columns().get(column)).and_then(latest);
            return Ok(Marked { batches: vec![batch], watermark, ..Marked::default() });
        };
        assigner.step.on_batch(batch, &mut assigner.output)?;
        let output = std::mem::take(&mut assigner.output);
        let mut marked = Marked { dead: output.dead, skipped: output.skipped_rows, ..Marked::default() };
        for batch in output.batches {
            assigner.timed(&batch, &mut marked)?;
        }
        Ok(marked)
    }
}

impl Assigner {
    /// Takes the assigner's columns off the rows: they are their times and watermarks now.
    fn timed(&self, batch: &Batch, marked: &mut Marked) -> Result<(), OperatorError> {
        let internal = |reason: String| OperatorError::Internal { reason };
        let columns = batch.columns();
        let times = columns.columns().get(self.event_time).and_then(numbers);
        let times = times.ok_or_else(|| internal("an assigner without times".to_owned()))?;
        let kept: Vec<usize> = (0..self.columns).collect();
        let mut rows = columns.project(&kept).map_err(|error| internal(error.to_string()))?;
        let mut marks = self.watermark.and_then(|watermark| columns.columns().get(watermark)).cloned();
        let mut values = times.values().clone();
        if times.null_count() > 0 {
            let there = BooleanArray::from((0..times.len()).map(|row| times.is_valid(row)).collect::<Vec<_>>());
            for row in (0..times.len()).filter(|row| times.is_null(*row)) {
                self.timeless(rows.slice(row, 1), marked)?;
            }
            let wrong = |error: arrow_schema::ArrowError| internal(error.to_string());
            let times = filter(&times, &there).map_err(wrong)?;
            values = times.as_primitive::<Int64Type>().values().clone();
            rows = filter_record_batch(&rows, &there).map_err(wrong)?;
            marks = marks.map(|marks| filter(&marks, &there)).transpose().map_err(wrong)?;
        }
        marked.watermark = marked.watermark.max(marks.as_ref().and_then(latest));
        let batch = Batch::new(rows, values).ok_or_else(|| internal("rows and times differ".to_owned()))?;
        marked.batches.push(batch);
        Ok(())
    }

    /// A row without a time is a bad record.
    fn timeless(&self, row: arrow_array::RecordBatch, marked: &mut Marked) -> Result<(), OperatorError> {
        let reason = "the watermark assigner gives the row no event time".to_owned();
        match self.on_error {
            OnError::Fail => return Err(OperatorError::Row { reason }),
            OnError::Skip => marked.skipped += 1,
            OnError::DeadLetter => {
                marked.dead.push(DeadRow { row, time: crate::record::NO_EVENT_TIME, reason, slot: None });
            }
        }
        Ok(())
    }
}

/// Times as plain numbers.
fn numbers(column: &ArrayRef) -> Option<Int64Array> {
    if let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() {
        return Some(times.reinterpret_cast());
    }
    column.as_primitive_opt::<Int64Type>().cloned()
}

/// The latest watermark of a column.
fn latest(column: &ArrayRef) -> Option<Watermark> {
    numbers(column)?.iter().flatten().max().map(Watermark)
}

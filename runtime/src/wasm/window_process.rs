//! Calls of a window-processor: all rows of some windows in, any number of rows for each of them out.

use std::sync::Arc;

use arrow_array::RecordBatch;

use super::call::Call;
use super::guest::{Expansion, Guest, internal, lower};
use super::lift;

/// What a window-processor is called with: rows window by window.
#[derive(Clone, Copy, Debug)]
pub struct WindowCall<'a> {
    /// first time of each window, ms
    pub starts: &'a [i64],
    /// first time after each window, ms
    pub ends: &'a [i64],
    /// number of its window by row, never decreasing
    pub groups: &'a [u32],
    /// event time by row, ms
    pub times: &'a [i64],
    /// the columns of the signature
    pub input: &'a RecordBatch,
}

impl Guest {
    /// Window-processor: any number of rows of `signature.outputs` for each window; `origin` numbers windows.
    pub fn process_windows(&mut self, call: &WindowCall<'_>) -> Result<Expansion, super::CallError> {
        let done = self.process_windows_once(call);
        self.watched(done, || Call::of_windows(call))
    }

    fn process_windows_once(&mut self, call: &WindowCall<'_>) -> Result<Expansion, super::CallError> {
        let WindowCall { starts, ends, groups, times, input } = *call;
        let (windows, rows) = (starts.len(), input.num_rows());
        if ends.len() != windows || groups.len() != rows || times.len() != rows {
            let lengths = format!("{} ends, {} groups and {} times", ends.len(), groups.len(), times.len());
            return Err(internal(format!("{lengths} for {windows} windows and {rows} rows")));
        }
        let outputs = self.signature.outputs.clone();
        if windows == 0 {
            let output = RecordBatch::new_empty(Arc::clone(outputs.arrow()));
            return Ok(Expansion { origin: Vec::new(), output });
        }
        let mut scratch = std::mem::take(&mut self.left);
        let inputs = self.signature.inputs.clone();
        let answered = lower(&mut scratch, "input", &inputs, input).and_then(|lowered| {
            self.call_with(rows, windows, |live| live.process_windows((starts, ends, groups, times, lowered.batch())))
        });
        self.left = scratch;
        let checked = lift::expansion(&outputs, windows, answered?);
        let (origin, output) = self.accept(checked, |(origin, _)| origin.len())?;
        Ok(Expansion { origin, output })
    }
}

//! A guest: one operator in one task, called batch by batch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{BooleanArray, RecordBatch};

use super::abi::FailureOut;
use super::call::Call;
use super::component::Component;
use super::error::{CallError, RowFailure};
use super::host::clean;
use super::instance::{Answer, Conditions, Live};
use super::lift;
use super::lower::Scratch;
use super::metrics::GuestMetrics;
use super::settings::{Secrets, Settings};
use super::witness::World;
use super::{OperatorKind, Signature, StateSchema};
use crate::clock::Stopwatch;
use crate::limits;
use crate::record::Schema;

/// What a guest is given and allowed.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// the step's configuration
    pub settings: Settings,
    /// memory that the guest may have, and that one answer may take in the host
    pub memory_bytes: usize,
    /// time that one call may take, to about 10 ms
    pub deadline: Duration,
    /// name of the step, for logs and as seed of random numbers
    pub step: String,
    /// number of the task within the step, for logs
    pub task: u32,
    /// number of the component's version in its place, for logs and capsules; 0: nobody counts
    pub version: u64,
    /// where the step's guests count, and who keeps their calls that fail
    pub counters: Arc<GuestMetrics>,
    /// in place of the clock and random numbers that step and component give: to repeat a call
    pub world: Option<World>,
}

impl GuestOptions {
    /// The default bounds and nothing set, for the first task of `step`.
    pub fn new(step: impl Into<String>) -> Self {
        Self {
            settings: Settings::default(),
            memory_bytes: limits::GUEST_MEMORY_BYTES,
            deadline: limits::GUEST_DEADLINE,
            step: step.into(),
            task: 0,
            version: 0,
            counters: Arc::default(),
            world: None,
        }
    }
}

/// What a flat-mapper made of a batch.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// for each row of `output` the input row that it came from; never decreases
    pub origin: Vec<u32>,
    /// the rows
    pub output: RecordBatch,
}

/// One operator in one task. After a trap (and all that is like one) its instance is dropped, and the next call makes
/// a new one, in microseconds: nothing is lost with it, guests keep nothing.
///
/// Every batch passed must have exactly the columns of the signature, in order; what comes back has been checked.
/// A call with no rows is answered without the guest.
pub struct Guest {
    pub(super) component: Component,
    pub(super) kind: OperatorKind,
    pub(super) signature: Signature,
    pub(super) conditions: Conditions,
    live: Option<Live>,
    pub(super) left: Scratch,
    pub(super) right: Scratch,
    /// for processors
    pub(super) third: Scratch,
}

impl Guest {
    pub(super) fn new(
        component: Component,
        kind: OperatorKind,
        signature: Signature,
        conditions: Conditions,
        live: Option<Live>,
    ) -> Self {
        let (left, right, third) = Default::default();
        Self { component, kind, signature, conditions, live, left, right, third }
    }

    /// What the operator reads, produces and remembers.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The component that it runs.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// What it is.
    pub fn kind(&self) -> OperatorKind {
        self.kind
    }

    /// What the guests of its step have cost and counted.
    pub fn counters(&self) -> &Arc<GuestMetrics> {
        &self.conditions.metrics
    }

    /// Mapper: one row of `signature.outputs` for each row of `input`.
    pub fn transform(&mut self, input: &RecordBatch) -> Result<RecordBatch, CallError> {
        let done = self.transform_once(input);
        self.watched(done, || Call::Transform { input: input.clone() })
    }

    fn transform_once(&mut self, input: &RecordBatch) -> Result<RecordBatch, CallError> {
        let rows = input.num_rows();
        let Self { signature, left, .. } = self;
        let Signature { inputs, outputs, .. } = signature.clone();
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(outputs.arrow())));
        }
        let mut scratch = std::mem::take(left);
        let answered = lower(&mut scratch, "input", &inputs, input)
            .and_then(|lowered| self.call(rows, |live| live.transform((lowered.batch(),))));
        self.left = scratch;
        let returned = answered?;
        let checked = lift::batch(&outputs, rows, returned);
        self.accept(checked, RecordBatch::num_rows)
    }

    /// Filter: true for each row of `input` to keep.
    pub fn select(&mut self, input: &RecordBatch) -> Result<BooleanArray, CallError> {
        let done = self.select_once(input);
        self.watched(done, || Call::Select { input: input.clone() })
    }

    fn select_once(&mut self, input: &RecordBatch) -> Result<BooleanArray, CallError> {
        let rows = input.num_rows();
        if rows == 0 {
            return Ok(BooleanArray::from(Vec::<bool>::new()));
        }
        let mut scratch = std::mem::take(&mut self.left);
        let inputs = self.signature.inputs.clone();
        let answered = lower(&mut scratch, "input", &inputs, input)
            .and_then(|lowered| self.call(rows, |live| live.select((lowered.batch(),))));
        self.left = scratch;
        let checked = lift::mask(rows, &answered?);
        self.accept(checked, BooleanArray::true_count)
    }

    /// Partitioner: for each row of `input` which of `targets` tasks gets it.
    pub fn route(&mut self, input: &RecordBatch, targets: u32) -> Result<Vec<u32>, CallError> {
        let done = self.route_once(input, targets);
        self.watched(done, || Call::Route { input: input.clone(), targets })
    }

    fn route_once(&mut self, input: &RecordBatch, targets: u32) -> Result<Vec<u32>, CallError> {
        let rows = input.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let mut scratch = std::mem::take(&mut self.left);
        let inputs = self.signature.inputs.clone();
        let answered = lower(&mut scratch, "input", &inputs, input)
            .and_then(|lowered| self.call(rows, |live| live.route((lowered.batch(), targets))));
        self.left = scratch;
        let checked = lift::targets(rows, targets, answered?);
        self.accept(checked, Vec::len)
    }

    /// Flat-mapper: any number of rows of `signature.outputs` for each row of `input`, in its order.
    pub fn expand(&mut self, input: &RecordBatch) -> Result<Expansion, CallError> {
        let done = self.expand_once(input);
        self.watched(done, || Call::Expand { input: input.clone() })
    }

    fn expand_once(&mut self, input: &RecordBatch) -> Result<Expansion, CallError> {
        let rows = input.num_rows();
        let Signature { inputs, outputs, .. } = self.signature.clone();
        if rows == 0 {
            let output = RecordBatch::new_empty(Arc::clone(outputs.arrow()));
            return Ok(Expansion { origin: Vec::new(), output });
        }
        let mut scratch = std::mem::take(&mut self.left);
        let answered = lower(&mut scratch, "input", &inputs, input)
            .and_then(|lowered| self.call(rows, |live| live.expand((lowered.batch(),))));
        self.left = scratch;
        let checked = lift::expansion(&outputs, rows, answered?);
        let (origin, output) = self.accept(checked, |(origin, _)| origin.len())?;
        Ok(Expansion { origin, output })
    }

    /// Aggregator: the empty accumulator, one row of `signature.state`.
    pub fn create(&mut self) -> Result<RecordBatch, CallError> {
        let done = self.create_once();
        self.watched(done, || Call::Create)
    }

    fn create_once(&mut self) -> Result<RecordBatch, CallError> {
        let state = self.state()?;
        let returned = self.call(0, Live::create)?;
        let checked = lift::batch(&state, 1, returned);
        self.accept(checked, |_| 0)
    }

    /// Aggregator: folds row i of `input` into row `groups[i]` of `accumulators`, and answers all accumulators.
    pub fn accumulate(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
    ) -> Result<RecordBatch, CallError> {
        let done = self.accumulate_once(groups, accumulators, input);
        self.watched(done, || Call::Accumulate {
            groups: groups.to_vec(),
            accumulators: accumulators.clone(),
            input: input.clone(),
        })
    }

    fn accumulate_once(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
    ) -> Result<RecordBatch, CallError> {
        let rows = input.num_rows();
        let state = self.state()?;
        if groups.len() != rows {
            return Err(internal(format!("{} groups for {rows} rows", groups.len())));
        }
        if rows == 0 {
            return Ok(accumulators.clone());
        }
        let inputs = self.signature.inputs.clone();
        let (mut left, mut right) = (std::mem::take(&mut self.left), std::mem::take(&mut self.right));
        let answered = lower(&mut left, "accumulators", &state, accumulators).and_then(|accumulators| {
            let input = lower(&mut right, "input", &inputs, input)?;
            self.call(rows, |live| live.accumulate((groups, accumulators.batch(), input.batch())))
        });
        (self.left, self.right) = (left, right);
        let checked = lift::batch(&state, accumulators.num_rows(), answered?);
        self.accept(checked, |_| 0)
    }

    /// Aggregator: row i of the answer is row i of `left` and of `right` in one, `left` being the earlier.
    pub fn merge(&mut self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, CallError> {
        let done = self.merge_once(left, right);
        self.watched(done, || Call::Merge { left: left.clone(), right: right.clone() })
    }

    fn merge_once(&mut self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, CallError> {
        let rows = left.num_rows();
        let state = self.state()?;
        if rows != right.num_rows() {
            return Err(internal(format!("merge of {rows} accumulators with {}", right.num_rows())));
        }
        if rows == 0 {
            return Ok(left.clone());
        }
        let (mut left_scratch, mut right_scratch) = (std::mem::take(&mut self.left), std::mem::take(&mut self.right));
        let answered = lower(&mut left_scratch, "left", &state, left).and_then(|left| {
            let right = lower(&mut right_scratch, "right", &state, right)?;
            self.call_with(0, rows, |live| live.merge((left.batch(), right.batch())))
        });
        (self.left, self.right) = (left_scratch, right_scratch);
        let checked = lift::batch(&state, rows, answered?);
        self.accept(checked, |_| 0)
    }

    /// Aggregator: the result of each accumulator, with the columns of `signature.outputs`.
    pub fn finish(&mut self, accumulators: &RecordBatch) -> Result<RecordBatch, CallError> {
        let done = self.finish_once(accumulators);
        self.watched(done, || Call::Finish { accumulators: accumulators.clone() })
    }

    fn finish_once(&mut self, accumulators: &RecordBatch) -> Result<RecordBatch, CallError> {
        let rows = accumulators.num_rows();
        let state = self.state()?;
        let outputs = self.signature.outputs.clone();
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(outputs.arrow())));
        }
        let mut scratch = std::mem::take(&mut self.left);
        let answered = lower(&mut scratch, "accumulators", &state, accumulators)
            .and_then(|lowered| self.call_with(0, rows, |live| live.finish((lowered.batch(),))));
        self.left = scratch;
        let checked = lift::batch(&outputs, rows, answered?);
        self.accept(checked, RecordBatch::num_rows)
    }

    /// Aggregator or processor that takes over state: what rows of state `from`, one of its sources, become.
    pub fn migrate(&mut self, from: &StateSchema, rows: &RecordBatch) -> Result<RecordBatch, CallError> {
        let (state, count) = (self.state()?, rows.num_rows());
        if !self.signature.sources.contains(from) {
            return Err(internal(format!("state of version {} is not taken over", from.version)));
        }
        if count == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(state.arrow())));
        }
        let mut scratch = std::mem::take(&mut self.left);
        let answered = lower(&mut scratch, "state", &from.fields, rows)
            .and_then(|lowered| self.call_with(0, count, |live| live.migrate((from.version, lowered.batch()))));
        self.left = scratch;
        let checked = lift::batch(&state, count, answered?);
        self.accept(checked, |_| 0)
    }

    /// Drops the instance: the next call gets a fresh one.
    pub(super) fn forget(&mut self) {
        self.live = None;
    }

    /// A guest's words, of bounded length and without its secrets.
    fn clean(&self, reason: &str) -> String {
        clean(&Secrets::of(&self.conditions.settings).scrub(reason), limits::GUEST_REASON_BYTES)
    }

    pub(super) fn state(&self) -> Result<Schema, CallError> {
        let state = self.signature.state.as_ref().map(|state| state.fields.clone());
        state.ok_or_else(|| internal(format!("a {} has no state", self.kind)))
    }

    /// As [`Guest::call_with`] for rows of the stream, which are metered.
    pub(super) fn call<T>(&mut self, rows: usize, invoke: impl Fn(&mut Live) -> Answer<T>) -> Result<T, CallError> {
        self.call_with(rows, rows, invoke)
    }

    /// Calls the guest, again where it asks for it. `metered` is what the call is metered with, `rows` bounds row failures.
    pub(super) fn call_with<T>(
        &mut self,
        metered: usize,
        rows: usize,
        invoke: impl Fn(&mut Live) -> Answer<T>,
    ) -> Result<T, CallError> {
        let mut retries = 0;
        loop {
            match self.call_once(metered, &invoke)? {
                Ok(answer) => return Ok(answer),
                Err(FailureOut::Retry(reason)) if retries == limits::GUEST_RETRIES => {
                    let reason = self.clean(&reason);
                    return Err(CallError::Batch(format!("{reason} (after {retries} retries)")));
                }
                Err(FailureOut::Retry(_)) => {
                    retries += 1;
                    GuestMetrics::add(&self.conditions.metrics.retries, 1);
                }
                Err(FailureOut::Batch(reason)) => {
                    return Err(CallError::Batch(self.clean(&reason)));
                }
                Err(FailureOut::Rows(failures)) => {
                    let failures = failures
                        .into_iter()
                        .map(|failure| RowFailure { row: failure.row, reason: self.clean(&failure.reason) });
                    let failures = check_failures(failures.collect(), rows);
                    return Err(failures.map_or_else(|reason| self.breach(reason), CallError::Rows));
                }
            }
        }
    }

    fn call_once<T>(
        &mut self,
        rows: usize,
        invoke: impl Fn(&mut Live) -> Answer<T>,
    ) -> Result<Result<T, FailureOut>, CallError> {
        let Self { component, kind, conditions, live, .. } = self;
        let live = match live {
            Some(live) => live,
            None => live.insert(component.instantiate(*kind, conditions)?),
        };
        live.begin_call();
        let watch = Stopwatch::start();
        let outcome = invoke(live);
        let metrics = &conditions.metrics;
        GuestMetrics::add(&metrics.busy_ns, u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX));
        GuestMetrics::add(&metrics.calls, 1);
        GuestMetrics::add(&metrics.rows_in, rows as u64);
        let explained = outcome.map_err(|error| live.explain(&error, conditions));
        explained.map_err(|error| self.discard(error))
    }

    /// Counts what was accepted, or refuses an answer that failed its checks.
    pub(super) fn accept<T>(&mut self, checked: Result<T, String>, rows: impl Fn(&T) -> usize) -> Result<T, CallError> {
        let value = checked.map_err(|reason| self.breach(reason))?;
        GuestMetrics::add(&self.conditions.metrics.rows_out, rows(&value) as u64);
        Ok(value)
    }

    fn breach(&mut self, reason: String) -> CallError {
        self.discard(CallError::Contract { reason })
    }

    /// Drops the instance, whose memory may be in any state, and counts why.
    fn discard(&mut self, error: CallError) -> CallError {
        self.live = None;
        let metrics = &self.conditions.metrics;
        match error {
            CallError::Trap { .. } => GuestMetrics::add(&metrics.traps, 1),
            CallError::Deadline { .. } => GuestMetrics::add(&metrics.deadlines, 1),
            CallError::Memory { .. } => GuestMetrics::add(&metrics.memory_denials, 1),
            CallError::Contract { .. } => GuestMetrics::add(&metrics.contract_breaches, 1),
            CallError::Rows(_) | CallError::Batch(_) | CallError::Instance { .. } | CallError::Internal { .. } => {}
        }
        error
    }
}

/// Row failures in ascending order, the first reason for each row.
fn check_failures(mut failures: Vec<RowFailure>, rows: usize) -> Result<Vec<RowFailure>, String> {
    if failures.is_empty() {
        return Err("reported failed rows, but named none".into());
    }
    if let Some(failure) = failures.iter().find(|failure| failure.row as usize >= rows) {
        return Err(format!("reported row {} as failed, but the batch has {rows} rows", failure.row));
    }
    failures.sort_by_key(|failure| failure.row);
    failures.dedup_by_key(|failure| failure.row);
    Ok(failures)
}

pub(super) fn lower<'a>(
    scratch: &'a mut Scratch,
    part: &str,
    schema: &Schema,
    batch: &'a RecordBatch,
) -> Result<super::lower::Lowered<'a>, CallError> {
    scratch.lower(part, schema, batch).map_err(internal)
}

pub(super) fn internal(reason: String) -> CallError {
    CallError::Internal { reason }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("component", &self.component)
            .field("kind", &self.kind)
            .field("step", &self.conditions.step)
            .field("task", &self.conditions.task)
            .field("live", &self.live.is_some())
            .finish_non_exhaustive()
    }
}

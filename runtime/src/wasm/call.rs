//! A call into a guest as a value: what it is called with, so that it can be kept, made smaller and made again.

use arrow_array::{BooleanArray, RecordBatch};

use super::error::CallError;
use super::guest::{Expansion, Guest};
use super::process::{ProcessCall, Processed, TimerClock, Work};
use super::window_process::WindowCall;

/// All arguments of one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// mapper
    Transform {
        /// rows
        input: RecordBatch,
    },
    /// filter
    Select {
        /// rows
        input: RecordBatch,
    },
    /// flat-mapper
    Expand {
        /// rows
        input: RecordBatch,
    },
    /// partitioner
    Route {
        /// rows
        input: RecordBatch,
        /// tasks that there are
        targets: u32,
    },
    /// aggregator: the empty accumulator
    Create,
    /// aggregator: rows into accumulators
    Accumulate {
        /// number of the accumulator by row
        groups: Vec<u32>,
        /// one row an accumulator
        accumulators: RecordBatch,
        /// rows
        input: RecordBatch,
    },
    /// aggregator: pairs of accumulators
    Merge {
        /// the earlier ones
        left: RecordBatch,
        /// the later ones
        right: RecordBatch,
    },
    /// aggregator: results
    Finish {
        /// one row an accumulator
        accumulators: RecordBatch,
    },
    /// processor
    Process(ProcessArguments),
    /// window-processor
    ProcessWindows {
        /// first time of each window, ms
        starts: Vec<i64>,
        /// first time after each window, ms
        ends: Vec<i64>,
        /// number of the window by row
        groups: Vec<u32>,
        /// event time by row, ms
        times: Vec<i64>,
        /// rows
        input: RecordBatch,
    },
}

/// As [`ProcessCall`], owned.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessArguments {
    /// the host's clock
    pub now_ms: i64,
    /// how far event time has come
    pub watermark_ms: i64,
    /// one row a key
    pub keys: RecordBatch,
    /// one byte a key: 1 where it has state
    pub present: Vec<u8>,
    /// one row for each key that has state
    pub state: RecordBatch,
    /// number of the key by row or timer
    pub groups: Vec<u32>,
    /// event time of each row, or when each timer was to fire, ms
    pub times: Vec<i64>,
    /// rows or timers
    pub work: ProcessWork,
}

/// What a processor is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum ProcessWork {
    /// rows of one input
    Rows {
        /// 0 or 1
        port: usize,
        /// the rows
        input: RecordBatch,
    },
    /// timers that are due
    Timers {
        /// of which time
        clock: TimerClock,
    },
}

/// What a guest makes of a [`Call`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// mapper, aggregator
    Rows(RecordBatch),
    /// filter
    Mask(BooleanArray),
    /// partitioner
    Targets(Vec<u32>),
    /// flat-mapper, window-processor
    Expansion(Expansion),
    /// processor
    Processed(Box<Processed>),
}

impl Call {
    /// The function's name in the contract.
    pub fn function(&self) -> &'static str {
        match self {
            Self::Transform { .. } => "transform",
            Self::Select { .. } => "select",
            Self::Expand { .. } => "expand",
            Self::Route { .. } => "route",
            Self::Create => "create",
            Self::Accumulate { .. } => "accumulate",
            Self::Merge { .. } => "merge",
            Self::Finish { .. } => "finish",
            Self::Process(_) | Self::ProcessWindows { .. } => "process",
        }
    }

    /// How many rows, accumulators, timers or windows the call is about: what row failures number.
    pub fn count(&self) -> usize {
        match self {
            Self::Transform { input } | Self::Select { input } | Self::Expand { input } => input.num_rows(),
            Self::Route { input, .. } | Self::Accumulate { input, .. } => input.num_rows(),
            Self::Create => 0,
            Self::Merge { left, .. } => left.num_rows(),
            Self::Finish { accumulators } => accumulators.num_rows(),
            Self::Process(arguments) => arguments.groups.len(),
            Self::ProcessWindows { starts, .. } => starts.len(),
        }
    }

    /// The same call about one row (accumulator, timer, window) alone; `None` where there is no such row.
    pub fn only(&self, row: usize) -> Option<Self> {
        if row >= self.count() {
            return None;
        }
        Some(match self {
            Self::Transform { input } => Self::Transform { input: input.slice(row, 1) },
            Self::Select { input } => Self::Select { input: input.slice(row, 1) },
            Self::Expand { input } => Self::Expand { input: input.slice(row, 1) },
            Self::Route { input, targets } => Self::Route { input: input.slice(row, 1), targets: *targets },
            Self::Create => return None,
            Self::Accumulate { groups, accumulators, input } => {
                let accumulators = one_row(accumulators, *groups.get(row)? as usize)?;
                Self::Accumulate { groups: vec![0], accumulators, input: input.slice(row, 1) }
            }
            Self::Merge { left, right } => Self::Merge { left: left.slice(row, 1), right: one_row(right, row)? },
            Self::Finish { accumulators } => Self::Finish { accumulators: accumulators.slice(row, 1) },
            Self::Process(arguments) => Self::Process(arguments.only(row)?),
            Self::ProcessWindows { starts, ends, groups, times, input } => {
                let number = u32::try_from(row).ok()?;
                let first = groups.partition_point(|group| *group < number);
                let rows = groups.partition_point(|group| *group <= number) - first;
                Self::ProcessWindows {
                    starts: vec![*starts.get(row)?],
                    ends: vec![*ends.get(row)?],
                    groups: vec![0; rows],
                    times: times.get(first..first + rows)?.to_vec(),
                    input: if first + rows <= input.num_rows() { input.slice(first, rows) } else { return None },
                }
            }
        })
    }

    /// What a processor was called with.
    pub(super) fn of_process(call: &ProcessCall<'_>) -> Self {
        let (groups, times, work) = match call.work {
            Work::Rows { port, groups, times, input } => {
                (groups, times, ProcessWork::Rows { port, input: input.clone() })
            }
            Work::Timers { groups, times, clock } => (groups, times, ProcessWork::Timers { clock }),
        };
        Self::Process(ProcessArguments {
            now_ms: call.now_ms,
            watermark_ms: call.watermark_ms,
            keys: call.keys.clone(),
            present: call.present.to_vec(),
            state: call.state.clone(),
            groups: groups.to_vec(),
            times: times.to_vec(),
            work,
        })
    }

    /// What a window-processor was called with.
    pub(super) fn of_windows(call: &WindowCall<'_>) -> Self {
        Self::ProcessWindows {
            starts: call.starts.to_vec(),
            ends: call.ends.to_vec(),
            groups: call.groups.to_vec(),
            times: call.times.to_vec(),
            input: call.input.clone(),
        }
    }
}

impl ProcessArguments {
    /// One row or timer, with the state of its key.
    fn only(&self, row: usize) -> Option<Self> {
        let group = *self.groups.get(row)? as usize;
        let present = *self.present.get(group)?;
        let before = self.present.get(..group)?.iter().filter(|present| **present == 1).count();
        let state = if present == 1 { one_row(&self.state, before)? } else { self.state.slice(0, 0) };
        let work = match &self.work {
            ProcessWork::Rows { port, input } => ProcessWork::Rows { port: *port, input: one_row(input, row)? },
            timers @ ProcessWork::Timers { .. } => timers.clone(),
        };
        Some(Self {
            now_ms: self.now_ms,
            watermark_ms: self.watermark_ms,
            keys: one_row(&self.keys, group)?,
            present: vec![present],
            state,
            groups: vec![0],
            times: vec![*self.times.get(row)?],
            work,
        })
    }
}

/// `slice` for a row that may not be there.
fn one_row(rows: &RecordBatch, row: usize) -> Option<RecordBatch> {
    (row < rows.num_rows()).then(|| rows.slice(row, 1))
}

impl Guest {
    /// Makes `call`, in an instance of its own that knows of no call before it.
    pub fn make(&mut self, call: &Call) -> Result<Answer, CallError> {
        self.forget();
        Ok(match call {
            Call::Transform { input } => Answer::Rows(self.transform(input)?),
            Call::Select { input } => Answer::Mask(self.select(input)?),
            Call::Expand { input } => Answer::Expansion(self.expand(input)?),
            Call::Route { input, targets } => Answer::Targets(self.route(input, *targets)?),
            Call::Create => Answer::Rows(self.create()?),
            Call::Accumulate { groups, accumulators, input } => {
                Answer::Rows(self.accumulate(groups, accumulators, input)?)
            }
            Call::Merge { left, right } => Answer::Rows(self.merge(left, right)?),
            Call::Finish { accumulators } => Answer::Rows(self.finish(accumulators)?),
            Call::Process(arguments) => {
                let ProcessArguments { now_ms, watermark_ms, keys, present, state, groups, times, work } = arguments;
                let work = match work {
                    ProcessWork::Rows { port, input } => Work::Rows { port: *port, groups, times, input },
                    ProcessWork::Timers { clock } => Work::Timers { groups, times, clock: *clock },
                };
                let call = ProcessCall { now_ms: *now_ms, watermark_ms: *watermark_ms, keys, present, state, work };
                Answer::Processed(Box::new(self.process(&call)?))
            }
            Call::ProcessWindows { starts, ends, groups, times, input } => {
                Answer::Expansion(self.process_windows(&WindowCall { starts, ends, groups, times, input })?)
            }
        })
    }
}

//! Calls of a processor: the state of keys and their rows or timers in, what becomes of them out, every word checked.

use arrow_array::{BooleanArray, RecordBatch};

use super::abi::{BatchOut, ExpansionOut};
use super::call::Call;
use super::error::CallError;
use super::guest::{Guest, internal, lower};
use super::lift;
use super::process_abi::{CallIn, OutcomeOut, TimersIn, TimersOut};
use super::{ProcessSignature, Signature};
use crate::limits;
use crate::record::Schema;

/// Which time a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimerClock {
    /// the watermark
    Event = 0,
    /// the host's clock
    Processing = 1,
}

/// A timer of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// number of its key in the call
    pub group: u32,
    /// when it fires, ms
    pub time_ms: i64,
    /// of which time
    pub clock: TimerClock,
}

/// What a processor is called with.
#[derive(Clone, Copy, Debug)]
pub struct ProcessCall<'a> {
    /// the host's clock
    pub now_ms: i64,
    /// how far event time has come
    pub watermark_ms: i64,
    /// one row a key: the key columns of the signature
    pub keys: &'a RecordBatch,
    /// one byte a key: 1 where it has state
    pub present: &'a [u8],
    /// one row for each key that has state
    pub state: &'a RecordBatch,
    /// what is to be done
    pub work: Work<'a>,
}

/// Rows, or timers that are due.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// rows of one input
    Rows {
        /// 0 or 1
        port: usize,
        /// number of the key by row
        groups: &'a [u32],
        /// event time by row, ms
        times: &'a [i64],
        /// the columns of that input's signature
        input: &'a RecordBatch,
    },
    /// timers of one clock
    Timers {
        /// number of the key by timer
        groups: &'a [u32],
        /// when each was to fire, ms
        times: &'a [i64],
        /// of which time
        clock: TimerClock,
    },
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Processed {
    /// which keys of the call have state
    pub present: BooleanArray,
    /// one row for each of these
    pub state: RecordBatch,
    /// for each row of `output` the row or timer that it came from; never decreases
    pub origin: Vec<u32>,
    /// the rows
    pub output: RecordBatch,
    /// rows for further outputs
    pub sides: Vec<SideRows>,
    /// timers that no longer hold
    pub deleted: Vec<Timer>,
    /// timers to set, after those were deleted
    pub set: Vec<Timer>,
}

/// Rows for a further output.
#[derive(Clone, Debug)]
pub struct SideRows {
    /// its number in the signature
    pub side: usize,
    /// as [`Processed::origin`]
    pub origin: Vec<u32>,
    /// the rows
    pub rows: RecordBatch,
}

impl Guest {
    /// Processor: handles rows or timers of the keys in the call.
    pub fn process(&mut self, call: &ProcessCall<'_>) -> Result<Processed, CallError> {
        let done = self.process_once(call);
        self.watched(done, || Call::of_process(call))
    }

    fn process_once(&mut self, call: &ProcessCall<'_>) -> Result<Processed, CallError> {
        let state = self.state()?;
        let Signature { inputs, process: Some(process), .. } = &self.signature else {
            return Err(internal(format!("a {} does not process", self.kind())));
        };
        let (inputs, process) = (inputs.clone(), process.clone());
        let keys = call.keys.num_rows();
        let with_state = call.present.iter().filter(|present| **present == 1).count();
        if call.state.num_rows() != with_state || call.present.len() != keys {
            return Err(internal(format!(
                "{with_state} of {keys} keys have state, but {} rows",
                call.state.num_rows()
            )));
        }
        let nothing = RecordBatch::new_empty(inputs.arrow().clone());
        let (port, groups, times, schema, input, clocks) = match call.work {
            Work::Rows { port: 0, groups, times, input } => (0, groups, times, &inputs, input, Vec::new()),
            Work::Rows { groups, times, input, .. } => {
                let second = process.second.as_ref().ok_or_else(|| internal("there is no second input".to_owned()))?;
                (1, groups, times, second, input, Vec::new())
            }
            Work::Timers { groups, times, clock } => {
                (0, groups, times, &inputs, &nothing, vec![clock as u8; times.len()])
            }
        };
        let (fired, rows) = match call.work {
            Work::Rows { .. } => (TimersIn::default(), (groups, times)),
            Work::Timers { .. } => (TimersIn { groups, times, clocks: &clocks }, (&[][..], &[][..])),
        };
        if groups.len() != times.len() || rows.0.len() != input.num_rows() {
            return Err(internal(format!(
                "{} groups and {} times for {} rows",
                groups.len(),
                times.len(),
                input.num_rows()
            )));
        }
        let count = groups.len();
        let mut scratch = [&mut self.left, &mut self.right, &mut self.third].map(std::mem::take);
        let [left, right, third] = &mut scratch;
        let answered = (|| {
            let keys = lower(left, "keys", &process.keys, call.keys)?;
            let held = lower(right, "state", &state, call.state)?;
            let input = lower(third, "input", schema, input)?;
            self.call(count, |live| {
                live.process(CallIn {
                    now: call.now_ms,
                    watermark: call.watermark_ms,
                    keys: keys.batch(),
                    present: call.present,
                    state: held.batch(),
                    port,
                    groups: rows.0,
                    times: rows.1,
                    input: input.batch(),
                    fired,
                })
            })
        })();
        [self.left, self.right, self.third] = scratch;
        let outputs = self.signature.outputs.clone();
        let checked = check(&outputs, &state, &process, keys, count, answered?);
        self.accept(checked, |processed| processed.output.num_rows())
    }
}

/// Checks an outcome of a call about `keys` keys with `count` rows or timers.
fn check(
    outputs: &Schema,
    state: &Schema,
    process: &ProcessSignature,
    keys: usize,
    count: usize,
    said: OutcomeOut,
) -> Result<Processed, String> {
    let of_state = |reason| format!("state: {reason}");
    let rows = |schema: &Schema, origin: Vec<u32>, output: BatchOut| {
        lift::expansion(schema, count, ExpansionOut { origin, output })
    };
    let (origin, output) = rows(outputs, said.origin, said.output)?;
    let mut sides: Vec<SideRows> = Vec::with_capacity(said.sides.len().min(process.sides.len()));
    for side in said.sides {
        let number = side.side as usize;
        let Some((name, schema)) = process.sides.get(number) else {
            return Err(format!("returned rows for side output {number}, but it has {}", process.sides.len()));
        };
        if sides.iter().any(|known| known.side == number) {
            return Err(format!("returned rows for side output `{name}` twice"));
        }
        let (origin, rows) =
            rows(schema, side.origin, side.output).map_err(|reason| format!("side output `{name}`: {reason}"))?;
        sides.push(SideRows { side: number, origin, rows });
    }
    let present = lift::mask(keys, &said.present).map_err(of_state)?;
    Ok(Processed {
        state: lift::batch(state, present.true_count(), said.state).map_err(of_state)?,
        present,
        origin,
        output,
        sides,
        deleted: timers(keys, said.deleted).map_err(|reason| format!("deleted timers: {reason}"))?,
        set: timers(keys, said.set).map_err(|reason| format!("timers: {reason}"))?,
    })
}

/// Timers of keys below `keys`, each with a time and a clock.
fn timers(keys: usize, said: TimersOut) -> Result<Vec<Timer>, String> {
    let TimersOut { groups, times, clocks } = said;
    if groups.len() != times.len() || groups.len() != clocks.len() {
        let lengths = format!("{} groups, {} times and {} clocks", groups.len(), times.len(), clocks.len());
        return Err(format!("returned {lengths}, expected as many of each"));
    }
    if groups.len() > limits::EXPANSION_ROWS_MAX {
        return Err(format!("returned {}, at most {} in one call", groups.len(), limits::EXPANSION_ROWS_MAX));
    }
    let timer = |((group, time_ms), clock): ((u32, i64), u8)| {
        if group as usize >= keys {
            return Err(format!("returned one of key {group}, but the call has {keys} keys"));
        }
        let clock = match clock {
            0 => TimerClock::Event,
            1 => TimerClock::Processing,
            other => return Err(format!("returned clock {other}, expected 0 (event time) or 1 (processing time)")),
        };
        Ok(Timer { group, time_ms, clock })
    };
    groups.into_iter().zip(times).zip(clocks).map(timer).collect()
}

#[cfg(test)]
mod tests {
    use super::super::abi::{ColumnOut, ValuesOut};
    use super::super::process_abi::SideRowsOut;
    use super::*;
    use crate::record::{Field, Kind};

    fn schema() -> Schema {
        Schema::new([Field::new("n", Kind::Int64)])
    }

    fn rows(values: &[i64]) -> BatchOut {
        let column = ColumnOut { values: ValuesOut::Int64(values.to_vec()), validity: None };
        BatchOut { rows: values.len() as u32, columns: vec![column] }
    }

    fn no_timers() -> TimersOut {
        TimersOut { groups: vec![], times: vec![], clocks: vec![] }
    }

    /// Makes an honest answer a dishonest one.
    type Lie = fn(&mut OutcomeOut);

    /// An answer to three rows of two keys, of which the second has state.
    fn honest() -> OutcomeOut {
        OutcomeOut {
            present: vec![0, 1],
            state: rows(&[7]),
            origin: vec![0, 2],
            output: rows(&[1, 2]),
            sides: vec![SideRowsOut { side: 0, origin: vec![1], output: rows(&[3]) }],
            deleted: no_timers(),
            set: TimersOut { groups: vec![1], times: vec![-5], clocks: vec![1] },
        }
    }

    fn checked(change: impl FnOnce(&mut OutcomeOut)) -> Result<Processed, String> {
        let process = ProcessSignature { second: None, keys: schema(), sides: vec![("aside".into(), schema())] };
        let mut said = honest();
        change(&mut said);
        check(&schema(), &schema(), &process, 2, 3, said)
    }

    #[test]
    fn an_honest_answer_is_taken_over() {
        let done = checked(|_| {}).unwrap();
        assert_eq!((done.state.num_rows(), done.output.num_rows(), done.sides[0].rows.num_rows()), (1, 2, 1));
        assert_eq!(done.set, [Timer { group: 1, time_ms: -5, clock: TimerClock::Processing }]);
    }

    #[test]
    fn answers_that_lie_are_refused_with_what_was_expected() {
        let refused = |change: Lie| checked(change).unwrap_err();
        let lies: [(Lie, &str); 12] = [
            (|said| said.present = vec![1], "state: returned a mask of 1 bytes, expected one for each of 2 rows"),
            (|said| said.present = vec![0, 2], "row 1 of the mask is 2"),
            (|said| said.present = vec![1, 1], "state: returned a batch of 1 rows, expected 2"),
            (|said| said.state = BatchOut { rows: 1, columns: vec![] }, "state: returned 0 columns, expected the 1"),
            (|said| said.origin = vec![0], "returned 1 origins, expected one for each of 2 rows"),
            (|said| said.origin = vec![2, 0], "origin decreases from 2 to 0"),
            (|said| said.origin = vec![0, 3], "origin of the last row is 3, expected less than the 3 rows"),
            (|said| said.sides[0].side = 1, "returned rows for side output 1, but it has 1"),
            (|said| said.sides.push(SideRowsOut { side: 0, origin: vec![], output: rows(&[]) }), "`aside` twice"),
            (|said| said.set.groups = vec![2], "timers: returned one of key 2, but the call has 2 keys"),
            (|said| said.set.clocks = vec![2], "timers: returned clock 2, expected 0 (event time) or 1"),
            (|said| said.deleted.times = vec![1], "deleted timers: returned 0 groups, 1 times and 0 clocks"),
        ];
        for (lie, expected) in lies {
            let reason = refused(lie);
            assert!(reason.contains(expected), "{reason} does not say: {expected}");
        }
    }

    #[test]
    fn more_rows_than_a_call_may_give_are_refused() {
        let many = limits::EXPANSION_ROWS_MAX as u32 + 1;
        let reason = checked(|said| said.output.rows = many).unwrap_err();
        assert!(reason.contains("at most 1048576 in one call"), "{reason}");
    }
}

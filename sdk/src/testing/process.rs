//! A processor with its state and timers, as the host runs it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, configure};
use crate::columns::Columns;
use crate::contract::{Batch, Failure};
use crate::drive;
use crate::process::contract::{Call, Outcome, SideRows, Timers};
use crate::process::{Clock, ProcessOperator, Side};
use crate::row::{ReadRow, Row};

/// Rounds of timers that one watermark may cause.
const ROUNDS_MAX: usize = 10_000;

/// A processor at work: feed it rows, move the watermark and the clock, and [`take`](Processing::take) what comes out.
///
/// State, timers and rows go through the same conversion to columns and back as in the host.
pub struct Processing<P: ProcessOperator> {
    instance: P,
    now: i64,
    watermark: i64,
    /// key as columns; its place is the key's number
    keys: Vec<Batch>,
    states: BTreeMap<usize, Batch>,
    timers: BTreeSet<(Clock, i64, usize)>,
    outputs: Vec<(i64, Batch)>,
    sides: Vec<(i64, SideRows)>,
}

impl<P: ProcessOperator> Processing<P> {
    /// A processor under `config` that has seen nothing; the clock stands at 0.
    pub fn new(config: Config<'_>) -> Result<Self, String> {
        Ok(Processing {
            instance: configure::<P>(config)?,
            now: 0,
            watermark: i64::MIN,
            keys: Vec::new(),
            states: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: Vec::new(),
            sides: Vec::new(),
        })
    }

    /// A row of `key` at the event time `time`, ms.
    pub fn row<'a>(&mut self, key: P::Key, row: P::Input<'a>, time: i64) -> Result<(), Failure> {
        let input = Columns::from_rows([row]).into_batch();
        self.rows(key, 0, input, time)
    }

    /// A row of the second input.
    pub fn second<'a>(&mut self, key: P::Key, row: P::Second<'a>, time: i64) -> Result<(), Failure> {
        let input = Columns::from_rows([row]).into_batch();
        self.rows(key, 1, input, time)
    }

    /// Event time advances to `watermark`, ms; `i64::MAX` is the end of the input.
    pub fn watermark(&mut self, watermark: i64) -> Result<(), Failure> {
        self.watermark = watermark;
        self.fire(Clock::Event, watermark)
    }

    /// The host's clock advances to `now`, ms.
    pub fn processing_time(&mut self, now: i64) -> Result<(), Failure> {
        self.now = now;
        self.fire(Clock::Processing, now)
    }

    /// What has come out since the last call, each row with its event time.
    pub fn take(&mut self) -> Result<Vec<(i64, P::Output)>, String>
    where
        P::Output: for<'b> ReadRow<'b>,
    {
        let mut taken = Vec::new();
        for (time, batch) in std::mem::take(&mut self.outputs) {
            let rows = Columns::<P::Output>::from_batch(batch)?.to_rows()?;
            taken.extend(rows.into_iter().map(|row| (time, row)));
        }
        Ok(taken)
    }

    /// As [`Processing::take`], of a further output.
    pub fn take_side<R: Row + for<'b> ReadRow<'b>>(&mut self, side: &Side<R>) -> Result<Vec<(i64, R)>, String> {
        let sides = drive::process_signature::<P>().sides;
        let number = sides.iter().position(|declared| declared.name == side.name());
        let number = number.ok_or_else(|| format!("the processor has no side output \"{}\"", side.name()))?;
        let (wanted, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sides).into_iter().partition(|(_, rows)| rows.side as usize == number);
        self.sides = others;
        let mut taken = Vec::new();
        for (time, rows) in wanted {
            let rows = Columns::<R>::from_batch(rows.output)?.to_rows()?;
            taken.extend(rows.into_iter().map(|row| (time, row)));
        }
        Ok(taken)
    }

    /// Keys with state, and timers that are set.
    pub fn held(&self) -> (usize, usize) {
        (self.states.len(), self.timers.len())
    }

    fn rows(&mut self, key: P::Key, port: u32, input: Batch, time: i64) -> Result<(), Failure> {
        let key = Columns::from_rows([key]).into_batch();
        let number = self.keys.iter().position(|known| *known == key).unwrap_or(self.keys.len());
        if number == self.keys.len() {
            self.keys.push(key);
        }
        let call = Call { port, groups: vec![0], times: vec![time], input, ..self.call(number) };
        self.run(number, &call, time)
    }

    fn fire(&mut self, clock: Clock, until: i64) -> Result<(), Failure> {
        for _ in 0..ROUNDS_MAX {
            let due = self.timers.range((clock, i64::MIN, 0)..=(clock, until, usize::MAX)).next().copied();
            let Some((clock, time, number)) = due else { return Ok(()) };
            self.timers.remove(&(clock, time, number));
            let fired = Timers { groups: vec![0], times: vec![time], clocks: vec![clock as u8] };
            let call = Call { fired, ..self.call(number) };
            let carried = if clock == Clock::Event { time } else { self.watermark.saturating_add(1) };
            self.run(number, &call, carried)?;
        }
        Err(Failure::Batch(format!("timers set {ROUNDS_MAX} others that were due at once")))
    }

    /// A call about one key, with nothing to do yet.
    fn call(&self, number: usize) -> Call {
        let nothing = || Batch { rows: 0, columns: <P::Input<'_> as Row>::finish(<P::Input<'_> as Row>::writer(0, 0)) };
        let state = self.states.get(&number).cloned();
        Call {
            now: self.now,
            watermark: self.watermark,
            keys: self.keys.get(number).cloned().unwrap_or_else(nothing),
            present: vec![u8::from(state.is_some())],
            state: state.unwrap_or_else(|| Batch { rows: 0, columns: P::State::finish(P::State::writer(0, 0)) }),
            port: 0,
            groups: Vec::new(),
            times: Vec::new(),
            input: nothing(),
            fired: Timers::default(),
        }
    }

    fn run(&mut self, number: usize, call: &Call, time: i64) -> Result<(), Failure> {
        let Outcome { present, state, output, sides, deleted, set, .. } = drive::process(&self.instance, call)?;
        if present == [1] {
            self.states.insert(number, state);
        } else {
            self.states.remove(&number);
        }
        let of = |timers: &Timers| -> Vec<(Clock, i64, usize)> {
            let clock = |clock: &u8| if *clock == 0 { Clock::Event } else { Clock::Processing };
            timers.times.iter().zip(&timers.clocks).map(|(time, at)| (clock(at), *time, number)).collect()
        };
        of(&deleted).iter().for_each(|timer| _ = self.timers.remove(timer));
        self.timers.extend(of(&set));
        if output.rows > 0 {
            self.outputs.push((time, output));
        }
        self.sides.extend(sides.into_iter().map(|rows| (time, rows)));
        Ok(())
    }
}

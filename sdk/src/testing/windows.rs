//! An aggregate in windows of event time, driven by the test: no clock, no host, no WebAssembly.

use std::marker::PhantomData;

use super::{Config, configure, folded, input, pieces};
use crate::columns::Columns;
use crate::contract::{Batch, Failure};
use crate::operator::AggregateOperator;
use crate::row::{ReadRow, Row};

/// How rows are put into windows, as the key `window` of a step says it. All in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// one after the other
    Tumbling {
        /// of each
        length_ms: i64,
    },
    /// overlapping
    Sliding {
        /// of each
        length_ms: i64,
        /// between two starts
        every_ms: i64,
    },
    /// rows not more than a gap apart
    Session {
        /// the gap
        gap_ms: i64,
    },
}

/// A window that has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired<R> {
    /// first ms of the window
    pub start_ms: i64,
    /// first ms behind the window
    pub end_ms: i64,
    /// what `finish` made of its rows
    pub result: R,
}

/// The windows of one key. Time advances only by [`Windows::watermark`], never by rows.
///
/// When a window fires, its rows are folded in one go, in pieces cut at random places, and in several accumulators that
/// are merged: all must come to the same (floats to a billionth), else the window's failure names what differs. Every row is a row of the aggregate's
/// own input type, or of any other that has its columns.
///
/// ```
/// use millstream_sdk::testing::{Fired, Window, Windows};
/// use millstream_sdk::{Aggregate, Row};
///
/// #[derive(Clone, Debug, PartialEq, Row)]
/// struct Largest {
///     value: Option<i64>,
/// }
///
/// #[derive(Row)]
/// struct Reading {
///     value: i64,
/// }
///
/// #[derive(Default)]
/// struct Most;
///
/// #[millstream_sdk::aggregate]
/// impl Aggregate for Most {
///     type Input<'a> = Reading;
///     type Accumulator = Largest;
///     type Output = Largest;
///
///     fn create(&self) -> Largest {
///         Largest { value: None }
///     }
///
///     fn fold(&self, largest: &mut Largest, reading: Reading) {
///         largest.value = largest.value.max(Some(reading.value));
///     }
///
///     fn merge(&self, left: &mut Largest, right: Largest) {
///         left.value = left.value.max(right.value);
///     }
///
///     fn finish(&self, largest: &Largest) -> Largest {
///         largest.clone()
///     }
/// }
///
/// let mut windows = Windows::<Most>::new(Window::Tumbling { length_ms: 1_000 }, &[]).unwrap();
/// windows.rows([(100, Reading { value: 7 }), (999, Reading { value: 3 }), (1_000, Reading { value: 9 })]).unwrap();
/// assert_eq!(windows.watermark(998).unwrap(), []);
/// let fired = Fired { start_ms: 0, end_ms: 1_000, result: Largest { value: Some(7) } };
/// assert_eq!(windows.watermark(999).unwrap(), [fired]);
///
/// windows.rows([(500, Reading { value: 8 })]).unwrap();
/// assert_eq!(windows.late(), 1);
/// assert_eq!(windows.end().unwrap().len(), 1);
/// ```
#[derive(Debug)]
pub struct Windows<A> {
    instance: A,
    window: Window,
    watermark_ms: i64,
    open: Vec<Open>,
    late: usize,
    aggregate: PhantomData<A>,
}

/// A window that has not fired, and its rows.
#[derive(Debug)]
struct Open {
    start_ms: i64,
    end_ms: i64,
    rows: Vec<Batch>,
}

impl<A: AggregateOperator> Windows<A> {
    /// No rows yet, and no watermark. The error refuses the configuration.
    pub fn new(window: Window, config: Config<'_>) -> Result<Self, String> {
        let shortest = match window {
            Window::Tumbling { length_ms: ms } | Window::Session { gap_ms: ms } => ms,
            Window::Sliding { length_ms, every_ms } => length_ms.min(every_ms),
        };
        if shortest < 1 {
            return Err(format!("{window:?} is shorter than a millisecond"));
        }
        let instance = configure::<A>(config)?;
        let (watermark_ms, open) = (i64::MIN, Vec::new());
        Ok(Self { instance, window, watermark_ms, open, late: 0, aggregate: PhantomData })
    }

    /// Takes in rows, each with its event time in ms. Those that are too late for all of their windows are counted.
    pub fn rows<I: Row>(&mut self, rows: impl IntoIterator<Item = (i64, I)>) -> Result<(), Failure> {
        for (time_ms, row) in rows {
            let row = input::<A, I>([row])?;
            let entered = match self.window {
                Window::Tumbling { length_ms } => self.enter(time_ms, length_ms, length_ms, &row),
                Window::Sliding { length_ms, every_ms } => self.enter(time_ms, length_ms, every_ms, &row),
                Window::Session { gap_ms } => self.enter_session(time_ms, gap_ms, row),
            };
            self.late += usize::from(!entered);
        }
        Ok(())
    }

    /// No more rows up to `time_ms`: the windows that end by then fire, in the order of their ends.
    pub fn watermark(&mut self, time_ms: i64) -> Result<Vec<Fired<A::Output>>, Failure>
    where
        A::Output: for<'b> ReadRow<'b>,
    {
        self.watermark_ms = self.watermark_ms.max(time_ms);
        let watermark_ms = self.watermark_ms;
        let (mut due, open): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|window| window.end_ms - 1 <= watermark_ms);
        self.open = open;
        due.sort_by_key(|window| (window.end_ms, window.start_ms));
        due.into_iter().map(|window| self.fire(&window)).collect()
    }

    /// The input ends: all windows fire.
    pub fn end(&mut self) -> Result<Vec<Fired<A::Output>>, Failure>
    where
        A::Output: for<'b> ReadRow<'b>,
    {
        self.watermark(i64::MAX)
    }

    /// How many rows came too late.
    pub fn late(&self) -> usize {
        self.late
    }

    /// Into all windows that hold `time_ms` and have not fired; whether there was one.
    fn enter(&mut self, time_ms: i64, length_ms: i64, every_ms: i64, row: &Batch) -> bool {
        let mut entered = false;
        let mut start_ms = time_ms.saturating_sub(time_ms.rem_euclid(every_ms));
        while start_ms.saturating_add(length_ms) > time_ms {
            let end_ms = start_ms.saturating_add(length_ms);
            if end_ms - 1 > self.watermark_ms {
                entered = true;
                match self.open.iter_mut().find(|window| window.start_ms == start_ms) {
                    Some(window) => window.rows.push(row.clone()),
                    None => self.open.push(Open { start_ms, end_ms, rows: vec![row.clone()] }),
                }
            }
            start_ms = start_ms.saturating_sub(every_ms);
            if start_ms == i64::MIN {
                break;
            }
        }
        entered
    }

    /// Into the session that it touches, or the several that it makes one; whether that has not fired.
    fn enter_session(&mut self, time_ms: i64, gap_ms: i64, row: Batch) -> bool {
        let (mut start_ms, mut end_ms) = (time_ms, time_ms.saturating_add(gap_ms));
        let (touched, open): (Vec<Open>, Vec<Open>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|session| session.start_ms <= end_ms && start_ms <= session.end_ms);
        self.open = open;
        let mut rows = Vec::new();
        for session in touched {
            (start_ms, end_ms) = (start_ms.min(session.start_ms), end_ms.max(session.end_ms));
            rows.extend(session.rows);
        }
        rows.push(row);
        let entered = end_ms - 1 > self.watermark_ms;
        if entered {
            self.open.push(Open { start_ms, end_ms, rows });
        }
        entered
    }

    fn fire(&self, window: &Open) -> Result<Fired<A::Output>, Failure>
    where
        A::Output: for<'b> ReadRow<'b>,
    {
        let rows = pieces::joined(&window.rows);
        let finished = Columns::<A::Output>::from_batch(folded(&self.instance, &rows)?).map_err(Failure::Batch)?;
        let result = finished.to_rows().map_err(Failure::Batch)?.pop();
        let result = result.ok_or_else(|| Failure::Batch("`finish` gave no row".to_owned()))?;
        Ok(Fired { start_ms: window.start_ms, end_ms: window.end_ms, result })
    }
}

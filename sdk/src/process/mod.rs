//! Processors: rows handled key by key, with state and timers that the host keeps.

pub(crate) mod contract;
pub(crate) mod drive;
mod side;

use std::collections::BTreeMap;

use crate::aggregate::Verdict;
use crate::operator::Operator;
use crate::packed::Packed;
use crate::row::{ReadRow, Row};

pub use side::Side;
#[doc(hidden)]
pub use side::SideWriter;

/// State that is a list, kept as MessagePack in one column.
pub type List<T> = Packed<Vec<T>>;

/// State that is a map, kept as MessagePack in one column.
pub type Map<K, V> = Packed<BTreeMap<K, V>>;

/// A processor. Put [`#[process]`](macro@crate::process) on the implementation; it adds the types that are left out:
/// `Key`, `Second` and `State`, each `()`.
///
/// Rows of one key come in the order in which they reached the step, its timers in the order of their times, and the
/// timers that a watermark makes due after all rows before that watermark. Between keys there is no order.
///
/// `self` is the configuration: a unit struct with `Default` where there is none, a struct with `Deserialize` under
/// `#[process(config)]`.
///
/// ```
/// use millstream_sdk::{Context, Process, Row, Timer};
///
/// #[derive(Row)]
/// struct User {
///     user: String,
/// }
///
/// #[derive(Row)]
/// struct LastSeen {
///     at: i64,
/// }
///
/// #[derive(Row)]
/// struct Silence {
///     user: String,
///     since: i64,
/// }
///
/// #[derive(Default)]
/// struct Inactivity;
///
/// #[millstream_sdk::process]
/// impl Process for Inactivity {
///     type Key = User;
///     type Input<'a> = ();
///     type State = LastSeen;
///     type Output = Silence;
///
///     fn on_row(&self, _row: (), state: &mut Option<LastSeen>, context: &mut Context<Self>) {
///         let at = context.time();
///         if let Some(before) = state.replace(LastSeen { at }) {
///             context.delete_timer(before.at + 60_000);
///         }
///         context.set_timer(at + 60_000);
///     }
///
///     fn on_timer(&self, _timer: Timer, state: &mut Option<LastSeen>, context: &mut Context<Self>) {
///         if let Some(last) = state.take() {
///             context.emit(Silence { user: context.key().user.clone(), since: last.at });
///         }
///     }
/// }
/// ```
pub trait Process: Sized {
    /// the key columns that it wants to know, by the names they have in the first input
    type Key: for<'a> ReadRow<'a>;
    /// what is read of a row; `'a` is there for borrowed text
    type Input<'a>: ReadRow<'a>;
    /// what is read of a row of the second input, where the step has one
    type Second<'a>: ReadRow<'a>;
    /// what is remembered for each key: a row of columns, or [`Packed`] for any serde type
    type State: for<'a> ReadRow<'a>;
    /// what comes out
    type Output: Row;

    /// Handles a row. `state` is that of the row's key, `None` where there is none; what it is afterwards is kept, and
    /// nothing is kept where it is `None`. Answers nothing, or `Result<(), E>` where a row may fail.
    fn on_row(
        &self,
        row: Self::Input<'_>,
        state: &mut Option<Self::State>,
        context: &mut Context<Self>,
    ) -> impl Verdict + use<Self>;

    /// Handles a row of the second input, as [`Process::on_row`].
    fn on_second(
        &self,
        row: Self::Second<'_>,
        state: &mut Option<Self::State>,
        context: &mut Context<Self>,
    ) -> impl Verdict + use<Self> {
        let _ = (row, state, context);
    }

    /// Handles a timer that is due.
    fn on_timer(
        &self,
        timer: Timer,
        state: &mut Option<Self::State>,
        context: &mut Context<Self>,
    ) -> impl Verdict + use<Self> {
        let _ = (timer, state, context);
    }
}

/// What `#[process]` adds to a [`Process`].
pub trait ProcessOperator: Process + Operator<Instance = Self> {
    /// version of the state's fields and their meaning
    const VERSION: u32;
    /// whether there is a second input
    const SECOND: bool;

    /// The further outputs, by number.
    fn sides() -> Vec<SideWriter>;
}

/// Which time a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// the watermark
    Event,
    /// the host's clock
    Processing,
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// when it was to fire, ms since 1970-01-01T00:00:00Z
    pub time: i64,
    /// of which time
    pub clock: Clock,
}

/// What a processor may ask and do while it handles a row or a timer.
pub struct Context<P: Process> {
    now: i64,
    watermark: i64,
    keys: Vec<P::Key>,
    /// of the row or timer at hand: the number of its key, its own, and its time
    group: u32,
    from: u32,
    time: i64,
    writer: <P::Output as Row>::Writer,
    origin: Vec<u32>,
    sides: Vec<SideWriter>,
    /// key, clock, time → whether it is to be set; the last word counts
    timers: BTreeMap<(u32, Clock, i64), bool>,
    /// what the author's code did wrong
    mistake: Option<String>,
}

impl<P: Process> Context<P> {
    /// The key of the row or timer.
    pub fn key(&self) -> &P::Key {
        // the group was checked before the handler was called
        &self.keys[self.group as usize]
    }

    /// The event time of the row, or the time of the timer, ms. A row without event time has the least `i64`.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// How far event time has come, ms: rows at or before it are late. The least `i64` before the first watermark.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Whether the input has ended, and timers fire for the last time: one that is set again then would fire at once.
    pub fn is_end(&self) -> bool {
        self.watermark == i64::MAX
    }

    /// The host's clock, ms. Results that depend on it are not the same when input is read again.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Puts out a row, which carries the time of the row or timer at hand.
    pub fn emit(&mut self, row: P::Output) {
        row.push(&mut self.writer);
        self.origin.push(self.from);
    }

    /// Puts out a row to a further output, which must be one of those in `#[process(sides(..))]`.
    pub fn emit_to<R>(&mut self, side: &Side<R>, row: R)
    where
        R: Row,
        R::Writer: 'static,
    {
        let written =
            self.sides.iter_mut().find(|writer| writer.name() == side.name()).map(|writer| writer.push(row, self.from));
        if written != Some(true) {
            self.mistake = Some(format!("\"{}\" is none of the sides that #[process(sides(..))] names", side.name()));
        }
    }

    /// Sets a timer of this key that fires when the watermark reaches `time`, ms. Setting it twice is setting it once.
    pub fn set_timer(&mut self, time: i64) {
        self.timers.insert((self.group, Clock::Event, time), true);
    }

    /// Takes a timer of this key away, if there is one.
    pub fn delete_timer(&mut self, time: i64) {
        self.timers.insert((self.group, Clock::Event, time), false);
    }

    /// Sets a timer of this key that fires when the host's clock reaches `time`, ms.
    pub fn set_processing_timer(&mut self, time: i64) {
        self.timers.insert((self.group, Clock::Processing, time), true);
    }

    /// Takes a timer of this key that waits for the host's clock away, if there is one.
    pub fn delete_processing_timer(&mut self, time: i64) {
        self.timers.insert((self.group, Clock::Processing, time), false);
    }
}

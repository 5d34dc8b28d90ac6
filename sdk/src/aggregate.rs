//! Aggregates: rows folded into accumulators that the host keeps.

use std::fmt::Display;

use crate::row::{ReadRow, Row};

/// An aggregate. Put [`#[aggregate]`](macro@crate::aggregate) on the implementation.
///
/// The host keeps the accumulator of each key and window and may split, merge and reorder the work: `merge` must be
/// associative, and folding rows in two accumulators and merging these must equal folding them in one.
///
/// `self` is the configuration: a unit struct with `Default` where there is none, a struct with `Deserialize` under
/// `#[aggregate(config)]`.
///
/// ```
/// use millstream_sdk::{Aggregate, Row};
///
/// #[derive(Row)]
/// struct Reading {
///     value: f64,
/// }
///
/// #[derive(Row)]
/// struct Seen {
///     sum: f64,
///     count: i64,
/// }
///
/// #[derive(Row)]
/// struct Mean {
///     mean: Option<f64>,
/// }
///
/// #[derive(Default)]
/// struct Average;
///
/// #[millstream_sdk::aggregate]
/// impl Aggregate for Average {
///     type Input<'a> = Reading;
///     type Accumulator = Seen;
///     type Output = Mean;
///
///     fn create(&self) -> Seen {
///         Seen { sum: 0.0, count: 0 }
///     }
///
///     fn fold(&self, seen: &mut Seen, row: Reading) {
///         seen.sum += row.value;
///         seen.count += 1;
///     }
///
///     fn merge(&self, left: &mut Seen, right: Seen) {
///         left.sum += right.sum;
///         left.count += right.count;
///     }
///
///     fn finish(&self, seen: &Seen) -> Mean {
///         Mean { mean: (seen.count > 0).then(|| seen.sum / seen.count as f64) }
///     }
/// }
/// ```
pub trait Aggregate: Sized {
    /// what is read of a row; `'a` is there for borrowed text
    type Input<'a>: ReadRow<'a>;
    /// what is remembered for each key and window
    type Accumulator: for<'a> ReadRow<'a>;
    /// what comes out
    type Output: Row;

    /// The empty accumulator.
    fn create(&self) -> Self::Accumulator;

    /// Folds a row in: answers nothing, or `Result<(), E>` where a row may fail.
    fn fold(&self, accumulator: &mut Self::Accumulator, row: Self::Input<'_>) -> impl Verdict + use<Self>;

    /// Adds `right`, the later, to `left`.
    fn merge(&self, left: &mut Self::Accumulator, right: Self::Accumulator);

    /// The result so far. May be asked more than once (early firing).
    fn finish(&self, accumulator: &Self::Accumulator) -> Self::Output;
}

/// What [`Aggregate::fold`] answers: `()`, or a `Result` whose error is the failure of the row.
pub trait Verdict {
    /// why a row may fail
    type Error: Display;

    /// As a result.
    fn verdict(self) -> Result<(), Self::Error>;
}

impl Verdict for () {
    type Error = std::convert::Infallible;

    #[inline]
    fn verdict(self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl<E: Display> Verdict for Result<(), E> {
    type Error = E;

    #[inline]
    fn verdict(self) -> Result<(), E> {
        self
    }
}

//! The row functions of guests, natively through the SDK's own loop: what the same code costs that runs in the guest,
//! without the boundary. From columns as the SDK has them to fresh ones, which nobody checks.

use std::convert::Infallible;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_sdk::{Batch, Column, Row, Values, Varlen, drive};

use super::rows::Rows;
use crate::measure::Failed;

/// As in `bench-map`.
#[derive(Row)]
struct Cents {
    amount: i64,
}

/// As in `bench-map`.
#[derive(Row)]
struct Euros {
    euros: f64,
}

/// As in `bench-bids`.
#[derive(Row)]
struct Bid<'a> {
    auction: i64,
    price: i64,
    channel: &'a str,
}

/// As in `bench-bids`.
#[derive(Row)]
struct Priced<'a> {
    euros: f64,
    flagged: bool,
    channel: &'a str,
}

/// `bench-map`
pub(super) fn map(batch: &Batch) -> Result<Batch, Failed> {
    let euros = |cents: Cents, _: &()| Ok::<_, Infallible>(Euros { euros: cents.amount as f64 * 0.01 });
    drive::map(batch, &(), euros).map_err(|failure| failure.to_string())
}

/// `bench-bids`
pub(super) fn bids(batch: &Batch) -> Result<Batch, Failed> {
    drive::map(batch, &(), priced).map_err(|failure| failure.to_string())
}

fn priced<'a>(bid: Bid<'a>, _: &'a ()) -> Result<Priced<'a>, Infallible> {
    let flagged = bid.price >= 900 && bid.auction & 3 == 0;
    Ok(Priced { euros: bid.price as f64 * 0.01, flagged, channel: bid.channel })
}

impl Rows for Batch {
    fn rows(&self) -> usize {
        self.rows as usize
    }
}

/// Columns of int64 and text without nulls, as the SDK has them.
pub(super) fn columns(batch: &RecordBatch) -> Result<Batch, Failed> {
    let column = |array: &arrow_array::ArrayRef| {
        let values = match (array.as_primitive_opt::<Int64Type>(), array.as_string_opt::<i32>()) {
            (Some(numbers), _) => Values::Int64(numbers.values().to_vec()),
            (_, Some(text)) => Values::Text(text.iter().flatten().collect::<Varlen>()),
            _ => return Err(format!("{} is neither int64 nor text", array.data_type())),
        };
        Ok(Column::from(values))
    };
    let columns = batch.columns().iter().map(column).collect::<Result<_, _>>()?;
    Ok(Batch { rows: u32::try_from(batch.num_rows()).map_err(|error| error.to_string())?, columns })
}

//! Tests of the window aggregate.

pub(in crate::operator) mod fold;
mod keyed;
pub(in crate::operator) mod model;
mod restoring;
mod rules;
mod sliding;
mod sparse;
mod spilling;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;

use super::*;
use crate::clock::Clock;
use crate::limits::BATCH_ROWS;
use crate::operator::{AggregateCall, AggregateColumns, AggregateFunction, output_schema};
use crate::record::{Field, Kind};
use crate::state::cells::{Cell, batch, rows};
use crate::window::{Firing, Trigger, WindowSpec};

fn built_in(output: &str, function: AggregateFunction, column: Option<usize>) -> AggregateCall {
    AggregateCall::BuiltIn { output: output.into(), function, column }
}

fn operator(input: &Schema, keys: &[usize], size_ms: u64, aggregates: Vec<AggregateCall>) -> WindowAggregate {
    let window = WindowSpec::Tumbling { size: Duration::from_millis(size_ms), offset_ms: 0 };
    windowed(input, keys, window, aggregates)
}

fn sliding(size_ms: u64, every_ms: u64, offset_ms: i64) -> WindowSpec {
    let (size, every) = (Duration::from_millis(size_ms), Duration::from_millis(every_ms));
    WindowSpec::Sliding { size, every, offset_ms }
}

fn windowed(input: &Schema, keys: &[usize], window: WindowSpec, aggregates: Vec<AggregateCall>) -> WindowAggregate {
    late(input, keys, window, 0, aggregates)
}

fn spec(
    input: &Schema,
    keys: &[usize],
    window: WindowSpec,
    lateness_ms: u64,
    aggregates: Vec<AggregateCall>,
) -> WindowAggregateSpec {
    WindowAggregateSpec {
        input: input.clone(),
        keys: keys.to_vec(),
        window,
        allowed_lateness: Duration::from_millis(lateness_ms),
        gap: None,
        trigger: Trigger::End,
        firing: Firing::Accumulating,
        clock: Clock::virtual_at_ms(0),
        late: true,
        aggregates,
        spill: None,
    }
}

fn late(
    input: &Schema,
    keys: &[usize],
    window: WindowSpec,
    lateness_ms: u64,
    aggregates: Vec<AggregateCall>,
) -> WindowAggregate {
    WindowAggregate::new(spec(input, keys, window, lateness_ms, aggregates)).unwrap()
}

fn put_in(operator: &mut dyn Operator, input: &Schema, rows: &[(Vec<Cell>, i64)]) -> Output {
    let mut out = Output::default();
    let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let batch = Batch::new(batch(input, &cells), rows.iter().map(|row| row.1).collect()).unwrap();
    operator.on_batch(batch, &mut out).unwrap();
    out
}

fn advance(operator: &mut dyn Operator, time: i64) -> Output {
    let mut out = Output::default();
    operator.on_watermark(Watermark(time), &mut out).unwrap();
    out
}

fn results(out: &Output) -> Vec<Vec<Cell>> {
    out.batches.iter().flat_map(|batch| rows(batch.columns().columns())).collect()
}

//! A task over a reader that is slow.

use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use tokio::sync::mpsc;

use super::*;
use crate::limits::{BATCH_ROWS, CHANNEL_BATCHES, ROWS_AT_ONCE};
use crate::operator::{AggregateCall, AggregateFunction, AggregateStep, OnError, WindowAggregateSpec};
use crate::partition::Partitioner;
use crate::pipeline::change::Progress;
use crate::pipeline::dead_letter;
use crate::record::{Field, Kind, Schema};
use crate::window::{Firing, Trigger, WindowSpec};

const KEYS: usize = 300_000;

fn counting(window: WindowSpec, trigger: Trigger) -> Box<dyn Operator> {
    let count = AggregateCall::BuiltIn { output: "n".into(), function: AggregateFunction::Count, column: None };
    let spec = WindowAggregateSpec {
        input: Schema::new([Field::new("k", Kind::Int64)]),
        keys: vec![0],
        window,
        allowed_lateness: Duration::ZERO,
        spill: None,
        late: false,
        gap: None,
        trigger,
        firing: Firing::Accumulating,
        clock: Clock::virtual_at_ms(0),
        aggregates: vec![count],
    };
    Box::new(AggregateStep::new(spec, OnError::DeadLetter, vec![None]).unwrap())
}

fn keys(from: usize, time: i64) -> Batch {
    let schema = Schema::new([Field::new("k", Kind::Int64)]);
    let numbers: Int64Array = (from..from + BATCH_ROWS).map(|key| (key % KEYS) as i64).collect();
    let columns = RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(numbers)]).unwrap();
    Batch::new(columns, vec![time; BATCH_ROWS].into()).unwrap()
}

/// Gives every key rows in two windows, ends the input, and reads slowly: how many rows came, and the most that had been
/// made and not been read.
async fn read_slowly(operator: Box<dyn Operator>) -> (usize, usize) {
    let (sender, mut elements) = mpsc::channel(CHANNEL_BATCHES);
    let edge = Edge::new(vec![sender], Partitioner::rebalance(1).unwrap());
    let counters = Arc::new(NodeCounters::default());
    let link = Link {
        step: "counts".into(),
        operator,
        counters: Arc::clone(&counters),
        versions: Versions::default(),
        migrations: Vec::new(),
        sweep: None,
        sides: Vec::new(),
        capsules: None,
    };
    let (dead, _writer) = dead_letter::open(None, None, 1, None);
    let report = Progress::new(1).1.remove(0);
    let clock = Clock::virtual_at_ms(0);
    let mut chain = Chain::new(0, vec![link], Tail::Edges(vec![edge]), dead, report, clock);
    for time in [1, 11] {
        for from in (0..KEYS).step_by(BATCH_ROWS) {
            chain.batch(0, keys(from, time)).await.unwrap();
        }
    }
    let task = tokio::spawn(async move { chain.watermark(Watermark::MAX).await });
    let (mut read, mut waiting) = (0, 0);
    loop {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        waiting = waiting.max(counters.read().rows_out as usize - read);
        match elements.recv().await.unwrap() {
            Element::Batch(batch) => {
                assert!(batch.rows() <= BATCH_ROWS);
                read += batch.rows();
            }
            Element::Watermark(Watermark::MAX) => break,
            other => panic!("{other:?}"),
        }
    }
    task.await.unwrap().unwrap();
    (read, waiting)
}

#[tokio::test]
async fn a_slow_reader_bounds_what_a_watermark_makes_at_once() {
    let size = Duration::from_millis(10);
    let tumbling = WindowSpec::Tumbling { size, offset_ms: 0 };
    let sliding = WindowSpec::Sliding { size: size * 4, every: size, offset_ms: 0 };
    let session = WindowSpec::Session { gap: Duration::from_millis(3) };
    for (window, results) in [(tumbling, 2), (sliding, 5), (session, 2)] {
        let (read, waiting) = read_slowly(counting(window, Trigger::End)).await;
        assert_eq!(read, results * KEYS, "{window:?}");
        // a part in hand, which may end in the middle of a batch, and as much in the channel: of 600,000 rows and more
        assert!(waiting <= 2 * ROWS_AT_ONCE + BATCH_ROWS, "{window:?}: {waiting} rows wait for the reader");
    }
}

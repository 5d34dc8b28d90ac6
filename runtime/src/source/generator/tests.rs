//! The generator's promises: pure rows, the same under any split, paced, quick.

use std::path::Path;

use arrow_array::types::Float64Type;

use super::*;
use crate::record::{Field, Kind};
use crate::source::testing;

const SEQUENCE: GeneratorKind = GeneratorKind::Sequence { keys: 100 };
const CUSTOMERS: GeneratorKind = GeneratorKind::Customers { keys: 50 };

fn spec(kind: GeneratorKind, rows: u64) -> GeneratorSpec {
    GeneratorSpec { kind, rows: Some(rows), rate: None, seed: 7, start_ms: 1_000, interval_ns: Some(300_000) }
}

fn context(wanted: Schema, subtask: usize, parallelism: usize) -> SourceContext {
    let base = testing::context(Path::new(""));
    SourceContext { format: None, schema: wanted.clone(), wanted, subtask, parallelism, ..base }
}

fn all_columns(kind: GeneratorKind) -> SourceContext {
    context(schema_of(kind), 0, 1)
}

async fn batches(source: &mut Generator) -> Vec<Batch> {
    let mut batches = Vec::new();
    loop {
        match source.next().await.unwrap() {
            SourceEvent::Batch { batch, .. } => batches.push(batch),
            SourceEvent::End => return batches,
            SourceEvent::PartitionEnded { .. } | SourceEvent::Quiet | SourceEvent::Direct(_) => {}
        }
    }
}

fn ints(batch: &Batch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<Int64Type>().values()
}

/// sequence, key, amount and time of all rows, in order of sequence
async fn rows_of(spec: &GeneratorSpec, parallelism: usize) -> Vec<(i64, i64, i64, i64)> {
    let mut rows = Vec::new();
    for subtask in 0..parallelism {
        let mut source = Generator::new(spec, &context(schema_of(SEQUENCE), subtask, parallelism)).unwrap();
        for batch in batches(&mut source).await {
            for row in 0..batch.rows() {
                rows.push((ints(&batch, 2)[row], ints(&batch, 0)[row], ints(&batch, 1)[row], batch.times()[row]));
            }
        }
    }
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn rows_depend_on_the_seed_alone() {
    let spec = spec(SEQUENCE, 20_001);
    let alone = rows_of(&spec, 1).await;
    assert_eq!(alone.len(), 20_001);
    assert!(alone.iter().enumerate().all(|(i, row)| row.0 == i as i64));
    for parallelism in [2, 3, 7] {
        assert!(rows_of(&spec, parallelism).await == alone, "differs with {parallelism} subtasks");
    }
    assert_ne!(rows_of(&GeneratorSpec { seed: 8, ..spec }, 1).await, alone);
}

#[tokio::test]
async fn times_are_an_even_grid_from_the_start() {
    let spec = spec(SEQUENCE, 10_000);
    for (sequence, _, _, time_ms) in rows_of(&spec, 3).await {
        assert_eq!(time_ms, 1_000 + sequence * 300_000 / 1_000_000);
    }
}

#[tokio::test]
async fn without_an_interval_the_rate_gives_it() {
    let spec = GeneratorSpec { rate: Some(2_000_000), interval_ns: None, ..spec(SEQUENCE, 5_000) };
    for (sequence, _, _, time_ms) in rows_of(&spec, 1).await {
        assert_eq!(time_ms, 1_000 + sequence * 500 / 1_000_000);
    }
}

#[tokio::test]
async fn keys_and_amounts_fill_their_ranges_evenly() {
    let rows = rows_of(&spec(SEQUENCE, 100_000), 1).await;
    let mut of_key = [0_u32; 100];
    let mut amounts = 0;
    for (_, key, amount, _) in &rows {
        of_key[*key as usize] += 1;
        assert!((0..1_000).contains(amount));
        amounts += amount;
    }
    assert!(of_key.iter().all(|count| (850..1_150).contains(count)), "{of_key:?}");
    assert!((49_000_000..51_000_000).contains(&amounts), "{amounts}");
}

#[tokio::test]
async fn only_wanted_columns_are_made_and_in_that_order() {
    let wanted = Schema::new([Field::new("at", Kind::TimestampMs), Field::new("amount", Kind::Int64)]);
    let mut source = Generator::new(&spec(SEQUENCE, 10), &context(wanted.clone(), 0, 1)).unwrap();
    let some = batches(&mut source).await.remove(0);
    let all = batches(&mut Generator::new(&spec(SEQUENCE, 10), &all_columns(SEQUENCE)).unwrap()).await.remove(0);
    assert_eq!(some.columns().schema(), *wanted.arrow());
    assert_eq!(some.column(0), all.column(3));
    assert_eq!(some.column(1), all.column(1));

    let mut none = Generator::new(&spec(SEQUENCE, 10), &context(Schema::new([]), 0, 1)).unwrap();
    assert_eq!(batches(&mut none).await.iter().map(Batch::rows).sum::<usize>(), 10);
}

#[test]
fn a_column_that_it_does_not_make_is_refused_with_those_it_makes() {
    for field in [Field::new("price", Kind::Int64), Field::new("key", Kind::Text)] {
        let context = context(Schema::new([field.clone()]), 0, 1);
        let error = Generator::new(&spec(SEQUENCE, 1), &context).err().unwrap().to_string();
        assert!(error.contains(&format!("no column `{field}`")), "{error}");
        assert!(error.contains("key: int64, amount: int64, sequence: int64, at: timestamp_ms"), "{error}");
    }
}

#[tokio::test]
async fn an_event_time_column_gives_the_times() {
    let context = SourceContext { event_time: Some(2), ..all_columns(SEQUENCE) };
    let batch = batches(&mut Generator::new(&spec(SEQUENCE, 10), &context).unwrap()).await.remove(0);
    assert_eq!(batch.times()[..], ints(&batch, 2)[..]);
}

#[tokio::test]
async fn customers_visit_pages_and_pay_for_orders_alone() {
    let batch = batches(&mut Generator::new(&spec(CUSTOMERS, 5_000), &all_columns(CUSTOMERS)).unwrap()).await.remove(0);
    let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
    let mut orders = 0;
    for row in 0..batch.rows() {
        let number = text(0, row).strip_prefix("customer-").unwrap();
        assert!(number.len() == 4 && number.parse::<u32>().unwrap() < 50, "{number}");
        let amount = batch.column(3).as_primitive::<Float64Type>().value(row);
        match text(1, row) {
            "order" => {
                orders += 1;
                assert_eq!(text(2, row), "/checkout");
                assert!((1.0..500.0).contains(&amount));
                assert_eq!((amount * 100.0).round() / 100.0, amount, "whole cents");
            }
            "page_view" | "add_to_cart" => {
                assert!(text(2, row).starts_with('/'));
                assert_eq!(amount, 0.0);
            }
            other => panic!("event {other}"),
        }
    }
    assert!((350..650).contains(&orders), "{orders}");
}

#[tokio::test]
async fn hostile_settings_do_not_overflow() {
    for (rows, interval_ns, start_ms, keys) in
        [(9_000, u64::MAX, i64::MAX - 1, 0), (9_000, 0, i64::MIN, u64::MAX), (1, 1, 0, 1)]
    {
        for kind in [GeneratorKind::Sequence { keys }, GeneratorKind::Customers { keys }] {
            let spec =
                GeneratorSpec { start_ms, interval_ns: Some(interval_ns), rate: Some(u64::MAX), ..spec(kind, rows) };
            let mut source = Generator::new(&spec, &context(schema_of(kind), 1, usize::MAX)).unwrap();
            batches(&mut source).await;
            let mut source = Generator::new(&spec, &all_columns(kind)).unwrap();
            assert_eq!(batches(&mut source).await.iter().map(Batch::rows).sum::<usize>() as u64, rows);
        }
    }
}

#[tokio::test]
async fn a_rate_is_kept_over_all_subtasks() {
    let watch = crate::clock::Stopwatch::start();
    let spec = GeneratorSpec { rate: Some(10_000), ..spec(SEQUENCE, 5_000) };
    let mut sources = Vec::new();
    for subtask in 0..2 {
        sources.push(Generator::new(&spec, &context(schema_of(SEQUENCE), subtask, 2)).unwrap());
    }
    let mut second = sources.pop().unwrap();
    let mut first = sources.pop().unwrap();
    let (first, second) = tokio::join!(batches(&mut first), batches(&mut second));
    let elapsed = watch.elapsed();
    assert!(elapsed >= Duration::from_millis(490), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert!(first.len() > 10 && second.len() > 10, "rows come as they are due");
}

#[tokio::test]
async fn a_slow_generator_says_that_it_is_quiet() {
    let spec = GeneratorSpec { rate: Some(1), ..spec(SEQUENCE, 2) };
    let mut source = Generator::new(&spec, &all_columns(SEQUENCE)).unwrap();
    assert!(matches!(source.next().await.unwrap(), SourceEvent::Batch { .. }));
    assert!(matches!(source.next().await.unwrap(), SourceEvent::Quiet));
}

#[tokio::test]
async fn a_generator_that_is_given_more_rows_goes_on_after_its_end() {
    let mut source = Generator::new(&spec(SEQUENCE, 100), &all_columns(SEQUENCE)).unwrap();
    batches(&mut source).await;
    let positions: crate::record::Positions = source.positions().into_iter().map(|(_, position)| position).collect();
    let restore = Some(std::sync::Arc::new(positions));
    for (rows, expected) in [(100, 0), (250, 150)] {
        let context = SourceContext { restore: restore.clone(), ..all_columns(SEQUENCE) };
        let mut source = Generator::new(&spec(SEQUENCE, rows), &context).unwrap();
        assert_eq!(source.partitions().len(), usize::from(expected > 0), "a lane with rows holds the watermark");
        assert_eq!(batches(&mut source).await.iter().map(Batch::rows).sum::<usize>(), expected);
        assert!(source.positions().iter().all(|(_, position)| position.ended));
    }
}

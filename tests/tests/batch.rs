//! Batch is streaming over inputs that end: the same pipeline over the same rows as JSON, CSV and Parquet, in one piece or
//! cut into small batches, by one task or several, gives the same results.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use millstream::format::Format;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::{Field, Kind};
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::SourceKind;
use millstream_tests::run;

const FILES: i64 = 5;

const ROWS_A_FILE: i64 = 400;

fn schema() -> Vec<Field> {
    vec![
        Field::new("customer", Kind::Text).nullable(),
        Field::new("amount", Kind::Float64).nullable(),
        Field::new("items", Kind::Int64),
        Field::new("express", Kind::Boolean),
        Field::new("at", Kind::TimestampMs),
    ]
}

/// Orders as JSON and CSV, in files that each cover a stretch of time, out of order by less than a second.
fn write_inputs(folder: &Path) {
    for format in ["json", "csv"] {
        std::fs::create_dir_all(folder.join(format)).expect("a folder");
    }
    for file in 0..FILES {
        let (mut json, mut csv) = (String::new(), String::from("customer,amount,items,express,at\n"));
        for row in 0..ROWS_A_FILE {
            let number = file * ROWS_A_FILE + row;
            let at = number * 100 + (number * 7_919) % 900;
            let (customer, items, express) = (number % 11, number % 4, number % 3 == 0);
            let amount = (number % 13 != 0).then(|| f64::from(i32::try_from(number % 50).expect("small")) / 4.0);
            let name = (number % 17 != 0).then(|| format!("\"customer, {customer}\""));
            let (json_name, json_amount) =
                (name.clone().unwrap_or("null".into()), amount.map_or("null".into(), |amount| amount.to_string()));
            writeln!(
                json,
                "{{\"customer\":{json_name},\"amount\":{json_amount},\"items\":{items},\"express\":{express},\"at\":{at}}}"
            )
            .expect("text");
            let (name, amount) =
                (name.unwrap_or_default(), amount.map(|amount| amount.to_string()).unwrap_or_default());
            writeln!(csv, "{name},{amount},{items},{express},{at}").expect("text");
        }
        std::fs::write(folder.join(format!("json/part-{file}.jsonl")), json).expect("a file");
        std::fs::write(folder.join(format!("csv/part-{file}.csv")), csv).expect("a file");
    }
}

fn input(folder: &Path, format: Format) -> Source {
    let folder = folder.join(format.name()).display().to_string();
    let source = match format {
        Format::Csv => Source::of(SourceKind::File { path: folder, header: true }),
        Format::Json => Source::file(format!("{folder}/part-*.jsonl")),
        _ => Source::file(format!("{folder}/")),
    };
    let source = source.format(format).event_time("at").max_out_of_orderness(Duration::from_secs(1));
    // a Parquet file says itself what its columns are
    if format == Format::Parquet { source } else { source.schema(schema()) }
}

/// Copies the JSON to Parquet, a file for each of three tasks.
fn write_parquet(folder: &Path) {
    let spec = Pipeline::new("to-parquet")
        .parallelism(3)
        .source("orders", input(folder, Format::Json))
        .sink(
            "out",
            Sink::file(folder.join("parquet/part.parquet").display().to_string())
                .from("orders")
                .format(Format::Parquet)
                .parallelism(3),
        )
        .build()
        .expect("a pipeline");
    run::run(spec, &RunOptions::default()).expect("it runs");
    assert_eq!(std::fs::read_dir(folder.join("parquet")).expect("a folder").count(), 3);
}

fn totals(folder: &Path, format: Format, parallelism: usize, out: SinkKind) -> PipelineSpec {
    let step = Step::aggregate().from("orders").key_by(["customer"]).tumbling(Duration::from_secs(10));
    Pipeline::new("totals")
        .parallelism(parallelism)
        .source("orders", input(folder, format))
        .step("totals", step.count("orders").sum("total", "amount").max("most", "items").first("express", "express"))
        .sink("out", Sink::of(out).from("totals"))
        .build()
        .expect("a pipeline")
}

fn results(folder: &Path, format: Format, parallelism: usize, shuffle_batches: Option<u64>) -> Vec<String> {
    let (sink, mut batches) = ChannelSink::new(100_000);
    let spec = totals(folder, format, parallelism, SinkKind::Channel(sink));
    run::run(spec, &RunOptions { shuffle_batches, ..RunOptions::default() }).expect("it runs");
    let mut rows = Vec::new();
    while let Ok(batch) = batches.try_recv() {
        rows.extend(run::rows(&batch).into_iter().map(|row| serde_json::Value::Object(row).to_string()));
    }
    rows.sort();
    rows
}

#[test]
fn one_pipeline_gives_the_same_over_all_formats_cuts_and_numbers_of_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    write_inputs(folder.path());
    write_parquet(folder.path());
    let expected = results(folder.path(), Format::Json, 1, None);
    assert!(expected.len() > 200, "{}", expected.len());
    for format in [Format::Json, Format::Csv, Format::Parquet] {
        for (parallelism, cuts) in [(1, None), (2, None), (3, None), (1, Some(1)), (2, Some(2)), (3, Some(3))] {
            let found = results(folder.path(), format, parallelism, cuts);
            let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            assert!(
                found == expected,
                "{} at parallelism {parallelism}, cuts {cuts:?}: {} rows of {}, first other {differs:?}",
                format.name(),
                found.len(),
                expected.len()
            );
        }
    }
}

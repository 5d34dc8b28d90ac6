//! Runs a pipeline in this process to its end and collects what it puts out.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use millstream::control::{Running, Status};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::wasm::{Sandbox, SandboxOptions};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// A sandbox as users have it.
pub fn sandbox() -> Result<Sandbox, String> {
    Sandbox::new(SandboxOptions::default()).map_err(|error| error.to_string())
}

/// Runs `spec` until its input ends.
pub fn run(spec: PipelineSpec, options: &RunOptions) -> Result<Status, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async { start(spec, options).await?.wait().await.map_err(|error| error.to_string()) })
}

/// Starts `spec`; for tests that change it while it runs.
pub async fn start(spec: PipelineSpec, options: &RunOptions) -> Result<Running, String> {
    let sandbox = sandbox()?;
    let resolution = resolve(spec, &sandbox).map_err(|error| error.to_string())?;
    Running::start(resolution, sandbox, options).await.map_err(|error| error.to_string())
}

/// Takes batches as they come and counts their rows, to the same end as [`collect`].
pub fn count(mut results: Receiver<Batch>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut rows = 0;
        while let Some(batch) = results.recv().await {
            rows += batch.rows() as u64;
        }
        rows
    })
}

/// Takes batches as they come until the run has ended and all its handles are dropped: their rows, in order of arrival.
pub fn collect(mut results: Receiver<Batch>) -> JoinHandle<Vec<Map<String, Value>>> {
    tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(batch) = results.recv().await {
            all.extend(rows(&batch));
        }
        all
    })
}

/// Rows as JSON objects.
pub fn rows(batch: &Batch) -> Vec<Map<String, Value>> {
    record_batch_rows(batch.columns())
}

/// Rows of columns without times as JSON objects.
pub fn record_batch_rows(columns: &RecordBatch) -> Vec<Map<String, Value>> {
    let schema = columns.schema();
    (0..columns.num_rows())
        .map(|row| {
            let cells = schema.fields().iter().zip(columns.columns());
            cells.map(|(field, column)| (field.name().clone(), cell(column.as_ref(), row))).collect()
        })
        .collect()
}

fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec().into(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMillisecondType>().value(row).into(),
        other => format!("{other}").into(),
    }
}

//! State of another version: what a row becomes depends on the row alone, and a swap goes on from it, at once and after restores.

use std::path::Path;

use millstream::pipeline;
use millstream::script::{Runner, RunnerOptions, Script};
use millstream::wasm::Guest;
use millstream_tests::{built, run};

use super::{Case, as_rows, columns, cuts, skipped};

pub(crate) fn check(case: &Case, guest: &mut Guest) {
    let name = format!("{} of {}", guest.component().name(), case.name);
    let version = case.from.unwrap();
    let Some(from) = guest.signature().sources.iter().find(|source| source.version == version).cloned() else {
        panic!("{name}: it knows no version {version}")
    };
    let whole = columns::batch(case, &from.fields);
    let wanted = as_rows(&case.expected);
    assert_eq!(run::record_batch_rows(&guest.migrate(&from, &whole).unwrap()), wanted, "{name}");
    for cut in cuts(whole.num_rows()) {
        let parts = [whole.slice(0, cut), whole.slice(cut, whole.num_rows() - cut)];
        let rows: Vec<_> =
            parts.iter().flat_map(|part| run::record_batch_rows(&guest.migrate(&from, part).unwrap())).collect();
        assert!(rows == wanted, "{name}: cut at row {cut} state becomes another one");
    }
}

const PIPELINE: &str = r#"
name = "migrated"

[source.rows]
tcp = { listen = "127.0.0.1:0" }
format = "json"
schema = { key = "int64", amount = "int64", at = "timestamp_ms" }
event_time = "at"

[step.sums]
from = "rows"
key_by = "key"
window = { tumbling = "10s" }
aggregate = { sums = "migrate-sum-1.wasm" }

[sink.out]
from = "sums"
print = {}
"#;

/// Rows that version 1 has seen stay its own.
const SCRIPT: &str = r#"
{"row":{"key":1,"amount":5},"time":1}
{"row":{"key":2,"amount":-7},"time":2}
{"row":{"key":1,"amount":8},"time":10001}
{"swap":{"step":"sums","component":"SECOND.wasm"}}
{"row":{"key":1,"amount":6},"time":3}
{"restore":true,"parallelism":3}
{"row":{"key":3,"amount":9},"time":4}
{"row":{"key":1,"amount":1},"time":10002}
{"watermark":9999}
{"expect":[{"key":1,"rows_1":1,"sum_1":5,"rows_2":1,"sum_2":6},{"key":2,"rows_1":1,"sum_1":-7,"rows_2":0,"sum_2":0},{"key":3,"rows_1":0,"sum_1":0,"rows_2":1,"sum_2":9}]}
{"restore":true,"parallelism":1}
{"end":true}
{"expect":[{"key":1,"rows_1":1,"sum_1":8,"rows_2":1,"sum_2":1}]}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_to_a_component_in_any_language_takes_state_over() {
    let first = built::guest("migrate-sum-1").unwrap();
    let folder = first.parent().unwrap();
    let spec = pipeline::parse(PIPELINE, Path::new("pipeline.toml"), folder).unwrap_or_else(|error| panic!("{error}"));
    let sandbox = run::sandbox().unwrap();
    for second in ["migrate-sum-2", "migrate-sum-2-c", "migrate-sum-2-go"] {
        if let Err(why) = built::guest(second) {
            skipped(second, &why);
            continue;
        }
        let script = SCRIPT.replace("SECOND", second);
        let script = Script::parse(&folder.join("inline.jsonl"), &script).unwrap_or_else(|error| panic!("{error}"));
        for parallelism in [1, 2, 4] {
            let options = RunnerOptions { parallelism: Some(parallelism), shuffle_batches: None };
            let runner = Runner::new(spec.clone(), sandbox.clone(), options).unwrap_or_else(|error| panic!("{error}"));
            let outcome = runner.run(&script).await.unwrap_or_else(|error| panic!("{error}"));
            if let Some(failure) = outcome.failure {
                panic!("{second} in {parallelism} tasks: {failure}");
            }
        }
    }
}

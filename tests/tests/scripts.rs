//! Scripts: every folder of `tests/scripts` is a pipeline with the scripts that drive it, as `millstream test` does.
//!
//! Each script is run at several parallelisms, with rows put into batches at random, and with a restore after every line:
//! none of that may change what comes out.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use millstream::pipeline;
use millstream::script::{Action, Line, Runner, RunnerOptions, Script, What};
use millstream::wasm::Sandbox;
use millstream_tests::{built, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Each pipeline with its scripts.
fn cases() -> Vec<(PathBuf, Vec<PathBuf>)> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let folders = list(&folder()).into_iter().filter(|path| path.is_dir());
    folders
        .map(|folder| {
            let scripts = list(&folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
            (folder.join("pipeline.toml"), scripts.collect())
        })
        .collect()
}

fn runner(pipeline: &Path, sandbox: &Sandbox, options: RunnerOptions) -> Runner {
    let spec = pipeline::read(pipeline).unwrap_or_else(|error| panic!("{error}"));
    Runner::new(spec, sandbox.clone(), options).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a script; what is wrong, if anything.
async fn wrong(runner: &Runner, script: &Script, variant: &str) -> Option<String> {
    let outcome = runner.run(script).await.unwrap_or_else(|error| panic!("{error}"));
    let failure = outcome.failure?;
    Some(format!("{} {variant}: {failure}", script.path.display()))
}

fn script(path: &Path) -> Script {
    Script::read(path).unwrap_or_else(|error| panic!("{error}"))
}

/// The script with a restore in front of every line up to the end of the input, at one parallelism after the other.
fn restored_everywhere(script: &Script) -> Script {
    let mut lines: Vec<Line> = Vec::new();
    let mut parallelism = (1..=3).cycle();
    let mut ended = false;
    for line in &script.lines {
        if !ended {
            let action = Action::Restore { parallelism: parallelism.next() };
            lines.push(Line { action, ..line.clone() });
        }
        ended |= line.action == Action::End;
        lines.push(line.clone());
    }
    Script { lines, ..script.clone() }
}

#[test]
fn there_are_scripts_for_the_main_semantics() {
    assert!(cases().iter().map(|(_, scripts)| scripts.len()).sum::<usize>() >= 12, "found {:?}", cases());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_hold_at_any_parallelism_and_with_rows_in_any_batches() {
    let sandbox = run::sandbox().unwrap();
    let mut failures = Vec::new();
    for (pipeline, scripts) in cases() {
        for parallelism in [None, Some(1), Some(2), Some(3)] {
            for shuffle_batches in [None, Some(1), Some(2), Some(3)] {
                let options = RunnerOptions { parallelism, shuffle_batches };
                let runner = runner(&pipeline, &sandbox, options);
                for path in &scripts {
                    failures.extend(wrong(&runner, &script(path), &format!("{options:?}")).await);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} runs went wrong:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_hold_with_a_restore_in_front_of_every_line() {
    let sandbox = run::sandbox().unwrap();
    let mut failures = Vec::new();
    for (pipeline, scripts) in cases() {
        let runner = runner(&pipeline, &sandbox, RunnerOptions::default());
        for path in &scripts {
            failures.extend(wrong(&runner, &restored_everywhere(&script(path)), "restored everywhere").await);
        }
    }
    assert!(failures.is_empty(), "{} runs went wrong:\n{}", failures.len(), failures.join("\n"));
}

/// What `lines` come to against the pipeline of `case`.
async fn failure(case: &str, lines: &str) -> What {
    let folder = folder().join(case);
    let runner = runner(&folder.join("pipeline.toml"), &run::sandbox().unwrap(), RunnerOptions::default());
    let script = Script::parse(&folder.join("inline.jsonl"), lines).unwrap_or_else(|error| panic!("{error}"));
    runner.run(&script).await.unwrap_or_else(|error| panic!("{error}")).failure.expect("a failure").what
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_nearly_fits_is_named_with_the_columns_that_do_not() {
    let what = failure(
        "tumbling",
        r#"{"row":{"word":"a","value":1},"time":0}
           {"row":{"word":"b","value":2},"time":0}
           {"end":true}
           {"expect":[{"word":"a","total":1},{"word":"b","total":3},{"word":"c"}]}"#,
    )
    .await;
    let What::Rows(differ) = what else { panic!("{what}") };
    assert_eq!((differ.expected_rows, differ.found_rows), (3, 2));
    assert_eq!(differ.missing[0].row, r#"{"word":"b","total":3}"#);
    let nearest = differ.missing[0].nearest.as_ref().unwrap();
    assert_eq!(nearest.differing, [("total".to_owned(), "3".to_owned(), "2.0".to_owned())]);
    assert_eq!((differ.missing[1].nearest.as_ref(), differ.unexpected.len()), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_came_before_the_last_expect_are_not_expected_again() {
    let what = failure(
        "columns-of-all-kinds",
        "{\"row\":{\"i\":1}}\n{\"expect\":[{\"i\":1}]}\n{\"restore\":true}\n{\"expect\":[{\"i\":1}]}",
    )
    .await;
    assert!(matches!(&what, What::Rows(differ) if differ.found_rows == 0), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_rows_that_nobody_expects_are_told_with_their_reasons() {
    let what = failure("dead-letters", "{\"row\":{\"id\":1},\"time\":1}\n{\"expect_dead\":0}").await;
    let What::Dead { expected: 0, found: 1, reasons } = what else { panic!("{what}") };
    assert_eq!(reasons, ["`large`: the order has no amount"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_to_a_component_that_does_not_fit_fails_the_script_and_says_why() {
    let even = built::guest("even").unwrap();
    let line = format!("{{\"swap\":{{\"step\":\"segment\",\"component\":{:?}}}}}", even.display().to_string());
    let what = failure("swap-mid-way", &line).await;
    assert!(matches!(&what, What::Swap { reason } if reason.contains("even.wasm")), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_stops_fails_the_script_at_the_line_that_stopped_it() {
    let folder = folder().join("dead-letters");
    let mut spec = pipeline::read(&folder.join("pipeline.toml")).unwrap();
    spec.steps[0].on_error = millstream::operator::OnError::Fail;
    for parallelism in 1..=3 {
        let options = RunnerOptions { parallelism: Some(parallelism), shuffle_batches: None };
        let runner = Runner::new(spec.clone(), run::sandbox().unwrap(), options).unwrap();
        let lines = "{\"row\":{\"id\":1,\"amount\":1},\"time\":1}\n{\"row\":{\"id\":2},\"time\":1}\n{\"watermark\":9}";
        let script = Script::parse(Path::new("inline.jsonl"), lines).unwrap();
        let failure = runner.run(&script).await.unwrap().failure.expect("a failure");
        assert_eq!(failure.line, 2);
        assert!(failure.to_string().contains("the order has no amount"), "{failure}");
    }
}

//! Every golden pipeline with checkpoints and exactly-once files, aborted at random moments and taken up at another
//! parallelism: its files hold what a straight run without checkpoints writes.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::control::Running;
use millstream::error::Spanned;
use millstream::pipeline;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::{CheckpointSpec, PipelineSpec};
use millstream::sink::SinkKind;
use millstream::source::Trickle;
use millstream_tests::run;

/// Seed and the parallelism of each life of a case.
const VARIANTS: [(u64, [usize; 4]); 2] = [(1, [1, 3, 2, 1]), (2, [3, 1, 2, 4])];

/// Pieces in which the input of a case is read.
const PIECES: usize = 24;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = std::fs::read_dir(&folder).expect("tests/golden");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("pipeline.toml").exists())
        .collect();
    cases.sort();
    cases
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The case with files for all of its outputs.
fn with_files(case: &Path, out: &Path) -> PipelineSpec {
    let mut spec = pipeline::read(&case.join("pipeline.toml")).unwrap();
    for sink in &mut spec.sinks {
        sink.kind.value = SinkKind::File { path: text(&out.join(&sink.name.value).join("part.json")) };
        sink.format = None;
    }
    spec.dead_letter = Some(Spanned::from(SinkKind::File { path: text(&out.join("dead/part.json")) }));
    spec
}

/// Lines of all visible files below `folder`, each with its sink's name, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for sink in std::fs::read_dir(folder).unwrap() {
        let sink = sink.unwrap();
        let name = sink.file_name().into_string().unwrap();
        for part in std::fs::read_dir(sink.path()).unwrap() {
            let part = part.unwrap();
            if !part.file_name().to_string_lossy().starts_with('.') {
                let text = std::fs::read_to_string(part.path()).unwrap();
                lines.extend(text.lines().map(|line| format!("{name}: {line}")));
            }
        }
    }
    lines.sort();
    lines
}

/// Bytes of a piece of the input.
fn piece(case: &Path) -> usize {
    let entries = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap());
    let input = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        !name.starts_with("expected") && name != "pipeline.toml"
    };
    let bytes: u64 = entries.filter(input).map(|entry| entry.metadata().unwrap().len()).sum();
    (usize::try_from(bytes).unwrap() / PIECES).max(16)
}

/// One life in a process of its own, as good as: with the runtime everything goes that it had begun. Whether it came to its
/// end before `checkpoints` more of them were made.
fn live(spec: PipelineSpec, options: &RunOptions, checkpoints: Option<u64>) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = run::sandbox()?;
        let resolution = resolve(spec, &sandbox).map_err(|error| error.to_string())?;
        let running = Running::start(resolution, sandbox, options).await.map_err(|error| error.to_string())?;
        let handle = running.handle();
        let Some(checkpoints) = checkpoints else {
            return running.wait().await.map(|_| true).map_err(|error| error.to_string());
        };
        let enough = async {
            while handle.status().checkpoints.is_none_or(|status| status.made < checkpoints) {
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        };
        tokio::select! {
            ended = running.wait() => ended.map(|_| true).map_err(|error| error.to_string()),
            () = enough => Ok(false),
        }
    })
}

/// Runs a case with deaths; what is wrong, if anything, or how many deaths there were.
fn run_case(case: &Path, seed: u64, parallelism: &[usize]) -> Result<usize, String> {
    let name = case.file_name().unwrap().to_string_lossy();
    let folder = tempfile::tempdir().unwrap();
    let straight = folder.path().join("straight");
    live(with_files(case, &straight), &RunOptions::default(), None).map_err(|error| format!("{name}: {error}"))?;
    let out = folder.path().join("restored");
    // slow enough that a busy machine, too, has made checkpoints before the end of the input
    let trickle = Trickle { bytes: piece(case), pause: Duration::from_millis(2) };
    let options = RunOptions { trickle: Some(trickle), shuffle_batches: Some(seed), ..RunOptions::default() };
    let mut deaths = 0;
    for (number, tasks) in parallelism.iter().enumerate() {
        let mut spec = with_files(case, &out);
        spec.parallelism = Some(Spanned::from(*tasks));
        let store = text(&folder.path().join("state"));
        spec.checkpoint =
            Some(CheckpointSpec { interval: Duration::from_millis(2).into(), ..CheckpointSpec::new(store) });
        let last = number + 1 == parallelism.len();
        let checkpoints = (!last).then_some(1 + (seed + number as u64) % 3);
        let ended = live(spec, &options, checkpoints).map_err(|error| format!("{name}, life {number}: {error}"))?;
        deaths += usize::from(!ended);
    }
    let (found, wanted) = (lines(&out), lines(&straight));
    if found == wanted {
        return Ok(deaths);
    }
    let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).take(5).cloned().collect();
    let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).take(5).cloned().collect();
    Err(format!(
        "{name}, seed {seed}, {deaths} deaths: {} rows, expected {}\n  missing: {}\n  not expected: {}",
        found.len(),
        wanted.len(),
        missing.join("\n           "),
        extra.join("\n                ")
    ))
}

#[test]
fn golden_pipelines_give_the_same_rows_whenever_they_die() {
    let (mut wrong, mut deaths) = (Vec::new(), 0);
    let cases = cases();
    for case in &cases {
        for (seed, parallelism) in &VARIANTS {
            match run_case(case, *seed, parallelism) {
                Ok(died) => deaths += died,
                Err(error) => wrong.push(error),
            }
        }
    }
    assert!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(deaths > 2 * cases.len(), "only {deaths} deaths in the middle of {} cases", cases.len());
}

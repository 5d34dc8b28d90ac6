//! Swaps to the same logic, wherever they come, are not to be seen in what comes out.

use std::collections::BTreeSet;

use super::*;

/// About a third of a second of them.
const FEW: u64 = 40_000;

/// What comes out, in an order of its own: rows of the processor by key and number, and windows.
#[derive(Debug, PartialEq)]
struct Output {
    numbers: BTreeSet<(i64, i64)>,
    sequences: BTreeSet<i64>,
    windows: BTreeSet<String>,
}

impl Output {
    fn of(outcome: Outcome) -> Self {
        let rows = outcome.rows.len();
        let numbers: BTreeSet<_> = outcome.rows.iter().map(|row| (int(row, "key"), int(row, "number"))).collect();
        let sequences: BTreeSet<_> = outcome.rows.iter().map(|row| int(row, "sequence")).collect();
        assert_eq!((numbers.len(), sequences.len()), (rows, rows), "rows that came twice");
        let count = outcome.windows.len();
        let windows: BTreeSet<_> = outcome.windows.into_iter().map(|row| Value::Object(row).to_string()).collect();
        assert_eq!(windows.len(), count, "windows that came twice");
        assert!(outcome.dead.is_empty());
        Self { numbers, sequences, windows }
    }
}

/// Runs a map, window sums and a processor while `during` does what it will.
async fn output_of<T>(parallelism: usize, during: impl AsyncFnOnce(Handle) -> T) -> (Output, T) {
    let pipeline = Pipeline::new("proof")
        .parallelism(parallelism)
        .source("numbers", generator(Some(FEW), Some(RATE)))
        .step("tag", map().from("numbers"))
        .step("count", Step::process(path("version-process")).key_by(["key"]).from("tag"))
        .step("sums", sums(["key"]).from("tag"));
    let job = start(pipeline, &["count"], &["sums"]).await;
    let handle = job.handle();
    let (outcome, result) = job.finish(during(handle)).await;
    (Output::of(outcome), result)
}

/// Knuth's MMIX generator: enough to choose moments and steps.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Swaps random steps at random moments until the end; how many swaps there were.
async fn swap_at_random(handle: Handle, versions: &[[PathBuf; 2]; 3], seed: u64) -> usize {
    let (mut random, mut done, mut second) = (seed, 0, [false; 3]);
    loop {
        tokio::time::sleep(Duration::from_micros(draw(&mut random, 30_000))).await;
        // one step, or several at once
        let chosen: Vec<usize> = match draw(&mut random, 4) {
            3 => vec![0, 1, 2],
            step => vec![usize::try_from(step).unwrap()],
        };
        chosen.iter().for_each(|step| second[*step] = !second[*step]);
        let names = ["tag", "count", "sums"];
        let requests: Vec<_> =
            chosen.iter().map(|&step| (names[step], &versions[step][usize::from(second[step])])).collect();
        match swap(&handle, &requests).await {
            Ok(report) => done += report.swapped.len(),
            Err(SwapError::Ended) => return done,
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_to_the_same_logic_at_random_moments_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let versions = ["version-map", "version-process", "version-sum"].map(|guest| {
        let same = built::same_logic(guest, &folder.path().join(format!("{guest}.wasm"))).unwrap();
        [built::guest(guest).unwrap(), same]
    });
    let (expected, ()) = output_of(1, async |handle| drop(handle)).await;
    assert_eq!((expected.sequences.len() as u64, expected.windows.len()), (FEW, 40));
    for parallelism in 1..=3 {
        for seed in 0..3 {
            let seed = seed * 10 + parallelism as u64;
            let (output, swaps) =
                output_of(parallelism, async |handle| swap_at_random(handle, &versions, seed).await).await;
            assert!(swaps >= 3, "seed {seed}: {swaps} swaps only");
            assert_eq!(output, expected, "seed {seed}, parallelism {parallelism}, {swaps} swaps");
        }
    }
}

//! A thousand swaps in a row leave nothing behind: no memory, no files, no descriptors, no threads. Alone in its process,
//! so that what it measures is its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::control::Running;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::resolve::resolve;
use millstream::sink::SinkKind;
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream::wasm::{Sandbox, SandboxOptions};
use millstream_tests::built;

/// What grows at first: pools of memory, histories of versions.
const WARM_UP: usize = 200;

const SWAPS: usize = 1_000;

/// What the process holds.
#[derive(Debug)]
struct Held {
    resident_bytes: usize,
    descriptors: usize,
    threads: usize,
    cache_files: usize,
}

impl Held {
    fn now(cache: &Path) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let number = |key: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            resident_bytes: number("VmRSS:") << 10,
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: number("Threads:"),
            cache_files: files(cache),
        }
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let version = |guest: &str| -> [PathBuf; 2] {
        let same = built::same_logic(guest, &folder.path().join(format!("{guest}.wasm"))).unwrap();
        [built::guest(guest).unwrap(), same]
    };
    let (map, sums) = (version("version-map"), version("version-sum"));
    let cache = folder.path().join("cache");
    let sandbox = Sandbox::new(SandboxOptions { cache: Some(cache.clone()), ..SandboxOptions::default() }).unwrap();
    let kind = GeneratorKind::Sequence { keys: 20 };
    let numbers =
        GeneratorSpec { kind, rows: None, rate: Some(20_000), seed: 3, start_ms: 0, interval_ns: Some(100_000) };
    let windows = Step::aggregate().key_by(["key"]).tumbling(Duration::from_secs(1));
    let spec = Pipeline::new("leaks")
        .parallelism(2)
        .source("numbers", Source::generator(numbers))
        .step("tag", Step::map(map[0].display().to_string()).keep_all().from("numbers"))
        .step("sums", windows.component("sums", sums[0].display().to_string()).from("tag"))
        .sink("out", Sink::of(SinkKind::Discard).from("sums"))
        .build()
        .unwrap();
    let resolution = resolve(spec, &sandbox).unwrap();
    let running = Running::start(resolution, sandbox, &RunOptions::default()).await.unwrap();
    let handle = running.handle();
    let swapping = async {
        let mut warm = None;
        for number in 1..=WARM_UP + SWAPS {
            let of = |versions: &[PathBuf; 2]| versions[number % 2].clone();
            handle.swap(&[("tag".to_owned(), of(&map)), ("sums".to_owned(), of(&sums))]).await.unwrap();
            if number == WARM_UP {
                warm = Some(Held::now(&cache));
            }
        }
        let (warm, end) = (warm.unwrap(), Held::now(&cache));
        let grown = end.resident_bytes.saturating_sub(warm.resident_bytes);
        assert!(grown < 16 << 20, "{grown} bytes more: {warm:?}, then {end:?}");
        assert!(end.descriptors <= warm.descriptors + 2, "{warm:?}, then {end:?}");
        // threads for blocking work come and go
        assert!(end.threads <= warm.threads + 4, "{warm:?}, then {end:?}");
        assert_eq!((warm.cache_files, end.cache_files), (4, 4), "two versions of two components");
        assert!(handle.history().values().all(|versions| versions.len() <= 8), "versions are remembered without end");
        println!("after {WARM_UP} swaps {warm:?}, after {SWAPS} more {end:?}");
        handle.stop().await;
    };
    tokio::time::timeout(Duration::from_secs(120), swapping).await.unwrap();
    drop(handle);
    running.wait().await.unwrap();
}

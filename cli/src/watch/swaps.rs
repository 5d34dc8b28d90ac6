//! From a changed file to a swap: which steps use it, whether it is another component at all, and telling about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::control::{Handle, SwapReport};
use millstream::pipeline::resolve::Resolution;
use millstream::pipeline::spec::StepSpec;
use millstream::wasm::Digest;
use serde::Serialize;

use super::FileWatch;
use crate::console::{self, Stream};
use crate::failure::Failure;
use crate::figures;
use crate::report;

/// Which steps use a file, by the names that a swap takes.
pub(crate) type Slots = BTreeMap<PathBuf, Vec<String>>;

/// The name that a swap takes for one of a step's components; their entries tell several apart.
pub(crate) fn slot_name(step: &StepSpec, slot: usize, several: bool) -> String {
    match step.kind.value.aggregate_name(slot).filter(|_| several) {
        Some(entry) => format!("{}.{entry}", step.name.value),
        None => step.name.value.clone(),
    }
}

/// The component files of a pipeline.
fn by_file(resolution: &Resolution) -> Slots {
    let mut slots = Slots::new();
    for (slot, resolved) in &resolution.components {
        let several = resolution.components.keys().filter(|other| other.step == slot.step).count() > 1;
        let step = resolution.plan.spec.steps.iter().find(|step| step.name.value == slot.step);
        // what spreads rows is no step, and has a name of its own
        let name = step.map_or_else(|| slot.step.clone(), |step| slot_name(step, slot.slot, several));
        slots.entry(resolved.path.clone()).or_default().push(name);
    }
    slots
}

/// The component files of a pipeline that are watched, as it runs now.
#[derive(Debug)]
pub(crate) struct Watched<W> {
    files: FileWatch,
    slots: Slots,
    /// which of them
    wanted: W,
}

impl<W: Fn(&Path) -> bool> Watched<W> {
    /// Watches the wanted ones among the component files of a pipeline.
    pub(crate) fn new(resolution: &Resolution, wanted: W) -> Result<Self, Failure> {
        let mut slots = by_file(resolution);
        slots.retain(|path, _| wanted(path));
        Ok(Self { files: FileWatch::new(slots.keys().cloned())?, slots, wanted })
    }

    /// The pipeline has another shape: watches the files that it names now. Those that have changed since they were last told of
    /// are looked at at once, and those that were not watched before: either may no longer be what runs.
    fn follow(&mut self, resolution: &Resolution) -> Result<(), Failure> {
        let mut slots = by_file(resolution);
        slots.retain(|path, _| (self.wanted)(path));
        self.files = FileWatch::new(slots.keys().cloned())?.following(&self.files);
        self.slots = slots;
        Ok(())
    }
}

/// Swaps whatever changes, until dropped; which files these are follows the shape of the pipeline. A file that cannot be used is
/// told about and changes nothing.
pub(crate) async fn swap_on_change<W: Fn(&Path) -> bool>(mut watched: Watched<W>, handle: Handle, json: bool) {
    let mut shapes = handle.shapes();
    loop {
        let changed = tokio::select! {
            changed = watched.files.changed() => changed,
            Ok(()) = shapes.changed() => {
                if let Err(failure) = watched.follow(&handle.resolution()) {
                    refused(&format!("the files of the new shape are not watched: {failure}"), json);
                }
                continue;
            }
        };
        let mut requests = Vec::new();
        for file in changed {
            let names = watched.slots.get(&file).map(Vec::as_slice).unwrap_or_default();
            if !runs_already(&handle, &file, names) {
                requests.extend(names.iter().map(|name| (name.clone(), file.clone())));
            }
        }
        if requests.is_empty() {
            continue;
        }
        match handle.swap(&requests).await {
            Ok(report) => swapped(&report, json, None),
            Err(error) => refused(&error.to_string(), json),
        }
    }
}

/// Whether the file holds what all of these slots run already: it was only touched.
fn runs_already(handle: &Handle, file: &Path, names: &[String]) -> bool {
    let Ok(bytes) = std::fs::read(file) else { return false };
    let (digest, known) = (Digest::of(&bytes).to_string(), handle.history());
    let runs = |name: &String| known.get(name).and_then(|versions| versions.iter().find(|version| version.current));
    names.iter().all(|name| runs(name).is_some_and(|version| version.digest == digest))
}

#[derive(Serialize)]
struct SwapLine<'a> {
    event: &'static str,
    #[serde(flatten)]
    report: &'a SwapReport,
}

#[derive(Serialize)]
struct RefusedLine<'a> {
    event: &'static str,
    message: &'a str,
}

/// Tells about a swap; `built` is how long the build took that led to it.
pub(crate) fn swapped(report: &SwapReport, json: bool, built: Option<Duration>) {
    if json {
        return console::say(report::json_line(&SwapLine { event: "swap", report }));
    }
    let paint = Stream::Stderr.paint();
    for swapped in &report.swapped {
        let from = figures::version(Some(swapped.from_version), &swapped.from);
        let to = figures::version(swapped.to_version, &swapped.to);
        let pause = figures::duration(Duration::from_nanos(report.pause_ns));
        let total = Duration::try_from_secs_f64(report.total_ms / 1e3).unwrap_or_default();
        let built = built.map(|built| format!("built in {} · ", figures::duration(built))).unwrap_or_default();
        console::say(format!(
            "{} {} {from} → {} · {built}swapped in {} · pause {pause}",
            paint.green("swapped"),
            paint.bold(&swapped.step),
            paint.cyan(to),
            figures::duration(total)
        ));
    }
}

/// Tells about a swap that did not happen.
fn refused(message: &str, json: bool) {
    if json {
        return console::say(report::json_line(&RefusedLine { event: "swap_refused", message }));
    }
    let paint = Stream::Stderr.paint();
    console::say(format!("{} {message}; the running version goes on", paint.yellow("not swapped:")));
}

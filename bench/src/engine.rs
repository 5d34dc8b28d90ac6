//! Whole pipelines in this process, by the wall clock: built by the builder, started and waited for as the CLI does.

mod checkpoints;
mod files;
mod kafka;
mod pipelines;
mod swaps;

use std::time::Duration;

use millstream::control::{NodeRole, Running};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::{Resolution, resolve};
use millstream::pipeline::spec::PipelineSpec;
use millstream::wasm::{Sandbox, SandboxOptions};
use tokio::runtime::Runtime;

use crate::arguments::Arguments;
use crate::measure::{Clock, Failed, Group, Side};
use crate::{Measure, Wanted};

/// What count and sum of a million int64 keys take in memory, about: the key table, and two slices at the border of windows.
const MILLION_KEYS_BYTES: usize = 96 << 20;

/// All groups of this kind.
pub(crate) fn groups(arguments: &Arguments, wanted: &Wanted<'_>, measure: &mut Measure<'_>) -> Result<(), Failed> {
    let engine = Engine::new()?;
    generated(&engine, arguments, wanted, measure)?;
    files::groups(&engine, arguments, wanted, measure)?;
    checkpoints::groups(&engine, arguments, wanted, measure)?;
    swaps::groups(&engine, arguments, wanted, measure)?;
    kafka::groups(&engine, arguments, wanted, measure)
}

/// Rows made on the spot.
fn generated(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let rows = if arguments.quick { 2_000_000 } else { 20_000_000 };
    let name = "engine: generator, stateless";
    if wanted(name) {
        let sides = vec![
            engine.side("generator → discard", pipelines::discard(rows)?)?,
            engine.side("generator → map → discard", pipelines::map(rows)?)?,
            engine.side("generator → filter → discard", pipelines::filter(rows)?)?,
        ];
        measure(wall(name, sides))?;
    }
    for (keys, said) in [(10_000, "10 thousand keys"), (1_000_000, "1 million keys")] {
        let name = format!("engine: 5 s tumbling count and sum, {said}");
        if !wanted(&name) {
            continue;
        }
        let mut sides = Vec::new();
        for parallelism in [1, 2] {
            for (logic, wasm) in [("built-in", false), ("wasm", true)] {
                let spec = pipelines::window(rows, keys, parallelism, wasm)?;
                sides.push(engine.side(&format!("{logic}, parallelism {parallelism}"), spec)?);
            }
        }
        measure(wall(&name, sides))?;
    }
    let name = "engine: 5 s tumbling count and sum, 1 million keys, bounded memory";
    if wanted(name) {
        let sides = vec![
            engine.side("all in memory", pipelines::window(rows, 1_000_000, 1, false)?)?,
            engine.side("bounded, nothing spills", pipelines::bounded_window(rows, 1 << 30)?)?,
            engine.side("a quarter in memory", pipelines::bounded_window(rows, MILLION_KEYS_BYTES / 4)?)?,
        ];
        measure(wall(name, sides))?;
    }
    for (logic, wasm) in [("built-in", false), ("wasm", true)] {
        let name = format!("engine: 10 s sliding count and sum, 1 thousand keys, {logic}");
        if !wanted(&name) {
            continue;
        }
        let mut sides = Vec::new();
        for every_ms in [2_000, 1_000, 500, 100] {
            let spec = pipelines::sliding(rows, Duration::from_millis(every_ms), wasm)?;
            sides.push(engine.side(&format!("every {every_ms} ms"), spec)?);
        }
        measure(wall(&name, sides))?;
    }
    Ok(())
}

fn wall<'a>(name: &str, sides: Vec<Side<'a>>) -> Group<'a> {
    Group { name: name.to_owned(), clock: Clock::Wall, unit: "row", sides }
}

/// What all pipelines run in.
struct Engine {
    runtime: Runtime,
    sandbox: Sandbox,
}

impl Engine {
    fn new() -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime's threads: {error}"))?;
        let sandbox = Sandbox::new(SandboxOptions::default()).map_err(|error| error.to_string())?;
        Ok(Self { runtime, sandbox })
    }

    /// The pipeline as a side: components are loaded and checked now, and only its run is measured.
    fn side<'a>(&'a self, name: &str, spec: PipelineSpec) -> Result<Side<'a>, Failed> {
        let resolution = self.resolve(spec)?;
        Ok(Side::new(name, move || self.run(resolution.clone())))
    }

    fn resolve(&self, spec: PipelineSpec) -> Result<Resolution, Failed> {
        resolve(spec, &self.sandbox).map_err(|error| error.to_string())
    }

    /// Runs to the end of the input; answers how many rows the sources took in.
    fn run(&self, resolution: Resolution) -> Result<u64, Failed> {
        let status = self.runtime.block_on(async {
            let running = Running::start(resolution, self.sandbox.clone(), &RunOptions::default()).await;
            let running = running.map_err(|error| error.to_string())?;
            running.wait().await.map_err(|error| error.to_string())
        })?;
        let lost = status.total(NodeRole::Step, |counts| counts.dead_rows + counts.late_rows + counts.skipped_rows);
        if lost > 0 {
            return Err(format!("{lost} rows were lost"));
        }
        Ok(status.total(NodeRole::Source, |counts| counts.rows_out))
    }
}

//! `millstream test`

mod diff;
mod json;

use std::path::PathBuf;

use clap::{Args, ValueHint};
use millstream::clock::Stopwatch;
use millstream::script::{Outcome, Runner, RunnerOptions, Script};

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{figures, report};

/// Drive a pipeline with scripts in virtual time and compare what comes out: rows and watermarks go in as the script says,
/// through the real plan, tasks and state. Sources and sinks of the pipeline are not opened.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Test {
    /// The pipeline file, .toml or .json
    #[arg(value_hint = ValueHint::FilePath)]
    pipeline: PathBuf,
    /// Scripts: one JSON object a line
    #[arg(required = true, value_name = "SCRIPT", value_hint = ValueHint::FilePath)]
    scripts: Vec<PathBuf>,
    /// A JSON line for each script and one for all, on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Put rows into batches of random sizes with this seed; results must not change
    #[arg(long, value_name = "SEED")]
    shuffle_batches: Option<u64>,
    /// Tasks of each source and step, in place of the pipeline's own `parallelism`; results must not change
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    parallelism: Option<u16>,
}

const AFTER_HELP: &str = "\
A script, line by line:
  {\"row\":{\"word\":\"a\"},\"time\":1000}       a row comes in (\"source\": which, where there are several)
  {\"watermark\":1999}                       no more rows up to this time; rows alone do not advance event time
  {\"expect\":[{\"word\":\"a\",\"count\":1}]}    rows since the last expect, in any order, columns that are named
  {\"end\":true}                             the input ends: all windows fire
  also: idle, active, restore, swap, processing_time, expect_late, expect_dead

Exits with 0 if all scripts hold, 1 if one does not, 2 if a script or the pipeline is wrong.";

impl Test {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let options =
            RunnerOptions { parallelism: self.parallelism.map(usize::from), shuffle_batches: self.shuffle_batches };
        let spec = millstream::pipeline::read::read(&self.pipeline)?;
        let runner = Runner::new(spec, super::sandbox()?, options)?;
        let scripts = self.read(&runner)?;
        let runtime = super::runtime()?;
        let exit = runtime.block_on(self.all(&runner, &scripts));
        runtime.shutdown_background();
        exit
    }

    /// Reads all scripts and checks them against the pipeline, so that nothing runs if one of them is wrong.
    fn read(&self, runner: &Runner) -> Result<Vec<Script>, Failure> {
        let (mut scripts, mut wrong) = (Vec::new(), Vec::new());
        for path in &self.scripts {
            match Script::read(path).and_then(|script| runner.check(&script).map(|()| script)) {
                Ok(script) => scripts.push(script),
                Err(error) => wrong.push(error),
            }
        }
        if wrong.is_empty() { Ok(scripts) } else { Err(Failure::Scripts(wrong)) }
    }

    async fn all(&self, runner: &Runner, scripts: &[Script]) -> Result<Exit, Failure> {
        let watch = Stopwatch::start();
        let width = scripts.iter().map(|script| script.path.display().to_string().chars().count()).max().unwrap_or(0);
        let mut failed = 0;
        for script in scripts {
            let outcome = runner.run(script).await.map_err(|error| Failure::Scripts(vec![error]))?;
            failed += usize::from(!outcome.ok());
            if self.json {
                console::result(report::json_line(&json::ScriptLine::of(script, &outcome)));
            } else {
                show(script, &outcome, width);
            }
        }
        if self.json {
            let ms = json::milliseconds(watch.elapsed());
            console::result(report::json_line(&json::Summary::of(scripts.len(), failed, ms)));
        } else {
            summarise(scripts.len(), failed, &figures::duration(watch.elapsed()));
        }
        Ok(if failed == 0 { Exit::Done } else { Exit::RunFailed })
    }
}

/// One line, and what was not as expected.
fn show(script: &Script, outcome: &Outcome, width: usize) {
    let paint = Stream::Stdout.paint();
    let word = if outcome.ok() { paint.green("ok    ") } else { paint.red("FAILED") };
    let name = format!("{:<width$}", script.path.display().to_string());
    let rows = format!("{:>7} rows", figures::count(outcome.rows));
    let took = paint.dim(format!("{:>9}", figures::duration(outcome.elapsed)));
    console::result(format!("{name}  {word}  {rows}  {took}"));
    if let Some(failure) = &outcome.failure {
        console::result(diff::text(script, failure, paint));
    }
}

fn summarise(scripts: usize, failed: usize, took: &str) {
    let paint = Stream::Stdout.paint();
    let all = format!("{scripts} script{}", if scripts == 1 { "" } else { "s" });
    console::result(match failed {
        0 => format!("{} {all}, {took}", paint.green("all as expected:")),
        failed => format!("{} {failed} of {all}, {took}", paint.red("FAILED:")),
    });
}

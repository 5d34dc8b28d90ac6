//! `millstream rehearse`: components tried on input that is read again, in this process.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream::control::rehearse::{
    Rehearsal, RehearsalError, RehearsalSpec, fork, go_on, recorded, rehearse, without_positions,
};
use millstream::control::{Budget, SwapError};
use millstream::pipeline::cut::Cut;
use millstream::pipeline::duration::parse_ns;
use millstream::pipeline::read;
use millstream::pipeline::resolve::resolve;

use super::{checkpoint, control, trial};
use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Try components on input that is read again, without touching the pipeline in production.
#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// The pipeline file
    pipeline: PathBuf,
    /// `step=file.wasm`; `step.entry=file.wasm` where a step has several components
    #[arg(required = true, value_parser = control::offer)]
    offers: Vec<(String, PathBuf)>,
    /// Recorded input in the place of a source: `[source=]rows.jsonl`, a JSON object a line
    #[arg(long, value_name = "FILE")]
    input: Vec<String>,
    /// Begin with this checkpoint, by epoch or name; the newest if none is named
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1, default_missing_value = "")]
    from_checkpoint: Option<String>,
    /// End once so many rows have been read
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// End after so long
    #[arg(long = "for", value_name = "DURATION")]
    during: Option<String>,
    /// What the candidate may cost, such as traps>0,p99>2x,diff>0.1%; without it nothing may differ
    #[arg(long, value_name = "BUDGETS")]
    rollback_on: Option<String>,
    /// The report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Rehearse {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let during = self.during.as_deref().map(parse_ns).transpose();
        let during = during.map_err(|error| usage(&format!("--for: {error}; expected a duration such as `30s`")))?;
        let budgets = self.rollback_on.as_deref().map(Budget::parse_all).transpose().map_err(|error| usage(&error))?;
        let inputs: Vec<_> = self.input.iter().map(|text| recorded(text)).collect::<Vec<_>>();
        let inputs = absolute(inputs)?;
        let pipeline = fork(read::read(&self.pipeline)?, &inputs).map_err(|error| usage(&error))?;
        let sandbox = super::sandbox()?;
        let mut resolution = resolve(pipeline, &sandbox)?;
        let runtime = super::runtime()?;
        let mut from = None;
        if let Some(name) = &self.from_checkpoint {
            let name = Some(name.as_str()).filter(|name| !name.is_empty());
            let (store, loaded) =
                runtime.block_on(checkpoint::load(&self.pipeline, name)).map_err(|error| usage(&error))?;
            let forked =
                runtime.block_on(go_on(resolution, &sandbox, &store, loaded)).map_err(|error| usage(&error))?;
            let paint = Stream::Stderr.paint();
            forked
                .notes
                .iter()
                .filter(|_| !self.json)
                .for_each(|note| console::say(paint.yellow(format!("note: {note}"))));
            (resolution, from) = (forked.resolution, Some(forked.from));
        }
        leave_out(from.as_mut(), &inputs);
        let (offers, during) = (self.offers.clone(), during.map(Duration::from_nanos));
        let spec = RehearsalSpec { offers, rows: Some(self.rows), during, budgets: budgets.unwrap_or_default(), from };
        let rehearsal = runtime.block_on(rehearse(resolution, sandbox, spec)).map_err(failure)?;
        self.show(&rehearsal)?;
        Ok(if rehearsal.passed { Exit::Done } else { Exit::RunFailed })
    }

    fn show(&self, rehearsal: &Rehearsal) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string(rehearsal);
            console::result(text.map_err(|error| Failure::Control(error.to_string()))?);
            return Ok(());
        }
        let rows = figures::count(rehearsal.rows_read);
        let mut text = trial::told(&rehearsal.trial)?;
        if let (Some(breach), None) = (&rehearsal.breach, &rehearsal.trial.breach) {
            text.push_str(&format!("\n{}: {}", breach.budget, breach.measured));
        }
        let verdict = if rehearsal.passed { "passed" } else { "not passed" };
        text.push_str(&format!("\n{rows} rows read; {verdict}; nothing in production was touched"));
        console::result(text);
        Ok(())
    }
}

/// Relative to where the command was given, not to the pipeline's folder.
fn absolute(inputs: Vec<(Option<String>, PathBuf)>) -> Result<Vec<(Option<String>, PathBuf)>, Failure> {
    let found = |(source, path): (Option<String>, PathBuf)| match path.canonicalize() {
        Ok(path) => Ok((source, path)),
        Err(error) => Err(Failure::File { what: "read", path, source: error }),
    };
    inputs.into_iter().map(found).collect()
}

fn leave_out(cut: Option<&mut Cut>, inputs: &[(Option<String>, PathBuf)]) {
    if let Some(cut) = cut {
        inputs.iter().for_each(|(source, _)| without_positions(cut, source.as_deref()));
    }
}

fn failure(error: RehearsalError) -> Failure {
    match error {
        RehearsalError::Run(error) => Failure::Run(Box::new(error)),
        RehearsalError::Swap(error @ SwapError::Ended) => Failure::Control(format!("{error} before its first row")),
        error => Failure::Usage(error.to_string()),
    }
}

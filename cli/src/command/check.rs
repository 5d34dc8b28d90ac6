//! `millstream check`

mod json;
mod table;

use std::path::PathBuf;

use clap::Args;

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;

/// Check a pipeline and show its plan, without running it: schemas, tasks, components and how rows travel.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The pipeline file, .toml or .json
    pipeline: PathBuf,
    /// The plan as JSON on stdout; for a pipeline that is refused, a JSON line for each mistake
    #[arg(long)]
    pub(crate) json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let sandbox = super::sandbox()?;
        match super::resolve(&self.pipeline, None, &sandbox) {
            Ok(resolution) if self.json => console::result(json::plan(&resolution)),
            Ok(resolution) => console::result(table::plan(&resolution, Stream::Stdout.paint())),
            Err(Failure::Pipeline(error)) if self.json => {
                // the mistakes are what was asked for
                report::pipeline(&error, true, Stream::Stdout);
                return Ok(Exit::Refused);
            }
            Err(failure) => return Err(failure),
        }
        Ok(Exit::Done)
    }
}

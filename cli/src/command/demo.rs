//! `millstream demo`

use std::path::PathBuf;

use clap::Args;

use crate::demo;
use crate::exit::Exit;
use crate::failure::Failure;

/// Show what Millstream does: made-up customer events through two WebAssembly operators and an event-time window, one
/// operator replaced while it runs, and every row accounted for at the end. Needs no service.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The folder with the components of guest-examples [default: target/guests]
    #[arg(long, value_name = "DIR")]
    guests: Option<PathBuf>,
    /// How long it runs
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(4..=600))]
    seconds: u64,
    /// Lines instead of a live table
    #[arg(long)]
    plain: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        demo::run(&demo::Options { guests: self.guests, seconds: self.seconds, plain: self.plain })
    }
}

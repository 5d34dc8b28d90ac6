//! `millstream`: runs, checks, inspects and develops pipelines.
//!
//! ```text
//!   arguments ──▶ command/<one file each> ──▶ the runtime's public API
//!                   │ results: stdout           │ everything else: stderr, through `console`
//!                   ╰─▶ Failure ─▶ report ─▶ exit code
//! ```

mod command;
mod componentize;
mod console;
mod demo;
mod exit;
mod failure;
mod figures;
mod interrupt;
mod logging;
mod report;
mod scaffold;
mod summary;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use command::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.json();
    if let Err(failure) = logging::start(cli.log.as_deref(), json) {
        return report::failure(&failure, json).into();
    }
    match cli.command.run() {
        Ok(exit) => exit.into(),
        Err(failure) => report::failure(&failure, json).into(),
    }
}

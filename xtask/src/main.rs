//! `cargo xtask`: set-up, guests, demo, tests, benchmarks and soaks. No dependencies, so that it builds in a second.

mod bench;
mod command;
mod demo;
mod guests;
mod help;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

/// Why a task stopped, for people.
pub(crate) type Failed = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", arguments.as_slice()),
    };
    let result = match task {
        "demo" => demo::run(rest),
        "guests" => setup::prepare().and_then(|()| guests::run(rest)),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "soak" => soak::run(rest),
        "help" | "--help" | "-h" => {
            help::show();
            Ok(())
        }
        other => Err(help::unknown(other)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            command::say(&format!("error: {failed}"));
            ExitCode::FAILURE
        }
    }
}

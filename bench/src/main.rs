//! Side-by-side measurements: `cargo xtask bench [--quick] [--filter TEXT] [--json] [--kafka HOST:PORT]`.
//!
//! Every figure is a ratio of two things measured in turn in one run, so that a slow or busy machine slows both.
//! `docs/benchmarks.md` says what is measured and what the figures do not say.

mod arguments;
mod boundary;
mod engine;
mod guests;
mod machine;
mod measure;
mod report;

use std::process::ExitCode;

use arguments::Arguments;
use machine::Machine;
use measure::{Failed, Figure, Group};

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            report::complain(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints group by group; with `--json` everything at the end.
fn run(arguments: &Arguments) -> Result<(), Failed> {
    let machine = Machine::here();
    if !arguments.json {
        report::heading(&machine)?;
    }
    let mut figures = Vec::new();
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut measure = |group: Group<'_>| -> Result<(), Failed> {
        let measured = measure::group(group, arguments.quick)?;
        if !arguments.json {
            report::table(&measured)?;
        }
        figures.extend(measured);
        Ok(())
    };
    boundary::groups(arguments, &wanted, &mut measure)?;
    engine::groups(arguments, &wanted, &mut measure)?;
    if figures.is_empty() {
        return Err(format!("no group's name contains `{}`", arguments.filter.as_deref().unwrap_or_default()));
    }
    if arguments.json { report::json(&machine, &figures) } else { Ok(()) }
}

/// Takes a group and measures it.
type Measure<'a> = dyn FnMut(Group<'_>) -> Result<(), Failed> + 'a;

/// Whether the group of that name is to be measured.
type Wanted<'a> = dyn Fn(&str) -> bool + 'a;

/// What was measured, for `--json`.
#[derive(serde::Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    figures: &'a [Figure],
}

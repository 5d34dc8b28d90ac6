//! `cargo xtask soak`

use crate::command::{self, cargo};
use crate::{Failed, guests, setup};

const USAGE: &str = "expected: cargo xtask soak [--seconds N] [--seed S]";

/// Builds the guests and disturbs a pipeline for as long as asked.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failed> {
    let mut variables = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = match argument.as_str() {
            "--seconds" => "MILLSTREAM_SOAK_SECONDS",
            "--seed" => "MILLSTREAM_SOAK_SEED",
            other => return Err(format!("no argument `{other}`; {USAGE}")),
        };
        let value = rest.next().filter(|value| value.parse::<u64>().is_ok());
        let value = value.ok_or_else(|| format!("`{argument}` needs a number; {USAGE}"))?;
        variables.push((name, value));
    }
    setup::prepare()?;
    guests::run(&[])?;
    let all = ["test", "--release", "--package", "millstream-cli", "--test", "soak", "--", "--nocapture"];
    command::run(cargo(&all).envs(variables))
}

//! `cargo xtask bench`

use crate::command::{self, cargo};
use crate::{Failed, guests, setup};

/// Builds the guests and runs the benchmarks.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failed> {
    setup::prepare()?;
    guests::run(&[])?;
    let mut all: Vec<String> = ["run", "--release", "--package", "millstream-bench", "--"].map(str::to_owned).to_vec();
    all.extend_from_slice(arguments);
    command::run(&mut cargo(&all))
}

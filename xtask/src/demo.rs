//! `cargo xtask demo`

use crate::command::{self, program, target};
use crate::{Failed, guests, setup};

/// Builds the CLI and the guests and runs the demo.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failed> {
    setup::prepare()?;
    // builds the CLI first: it makes the components
    guests::run(&[])?;
    let cli = target().join("release/millstream");
    let mut all = vec!["demo".to_owned(), "--guests".to_owned(), crate::command::guests().display().to_string()];
    all.extend_from_slice(arguments);
    command::run(&mut program(&cli.display().to_string(), &all))
}

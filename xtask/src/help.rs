//! `cargo xtask help`

use crate::command;

const TASKS: &str = "\
cargo xtask <task>

  demo [arguments]        builds everything and runs `millstream demo` with the arguments
  guests                  builds the components of guest-examples into target/guests
  test [--filter WORD]    everything that must hold before a change is merged: format, lints, guests, all tests;
                          with a filter only the tests whose names contain the word, without the lints
  bench [arguments]       builds the guests and runs the benchmarks with the arguments
  soak [arguments]        kills, swaps and disturbs a pipeline at random and checks what it shows: --seconds N --seed S
  help                    this

With CI=true `test` installs the compilers it misses, and a skipped test fails it.
";

/// Prints the tasks.
pub(crate) fn show() {
    command::result(TASKS.trim_end());
}

/// For a task that does not exist.
pub(crate) fn unknown(task: &str) -> String {
    format!("no task `{task}`\n\n{}", TASKS.trim_end())
}

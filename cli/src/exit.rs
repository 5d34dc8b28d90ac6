//! Exit codes: the part of a command's answer that scripts read.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// done; for a run: all rows that were taken in have arrived
    Done = 0,
    /// started, but could not go on; for tests: something came out that was not expected
    RunFailed = 1,
    /// nothing was started: wrong usage, or a pipeline or component that is refused (clap uses 2 as well)
    Refused = 2,
    /// ran, but a check of the results failed; for a trial: the candidate was taken back
    NotVerified = 3,
    /// aborted by a second Ctrl-C, as shells report SIGINT
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Shown below `millstream --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; a run stopped by Ctrl-C or SIGTERM has finished what it took in
  1    the run failed, a test script found something else than it expects, or a candidate did not pass its rehearsal
  2    wrong usage, or a pipeline, component or change that is refused; nothing was started, nothing has changed
  3    a verification failed, or a candidate that was tried was taken back
  130  aborted by a second Ctrl-C

Results go to stdout, everything else to stderr. NO_COLOR turns colours off.";

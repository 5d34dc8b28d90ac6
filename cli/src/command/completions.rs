//! `millstream completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;

/// Print a completion script, for example: source <(millstream completions bash)
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "millstream", &mut script);
        console::result(String::from_utf8_lossy(&script).trim_end());
        Ok(Exit::Done)
    }
}

//! `millstream new`

use std::path::PathBuf;

use clap::Args;

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::scaffold;

/// Make a project for an operator, with a test and a pipeline to try it.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The project's name: letters, digits, - and _
    name: String,
    /// Its language
    #[arg(long, default_value = "rust")]
    lang: String,
    /// What the operator does: map, filter, flat-map, aggregate, process, window-process or partition
    #[arg(long, default_value = "map")]
    kind: String,
    /// Where to put it [default: a folder of its name]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The folder of the Rust SDK to depend on [default: that of the checkout this program was built in, else the
    /// published one]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

impl New {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let dir = self.dir.unwrap_or_else(|| PathBuf::from(&self.name));
        match &self.sdk {
            Some(sdk) => scaffold::create_with(&dir, &self.name, &self.lang, &self.kind, Some(sdk))?,
            None => scaffold::create(&dir, &self.name, &self.lang, &self.kind)?,
        };
        let paint = Stream::Stderr.paint();
        let shown = dir.display();
        console::say(format!(
            "{} {shown}\n  cd {shown} && millstream dev .    # runs its pipeline; save src and watch it change",
            paint.green("made")
        ));
        console::result(shown);
        Ok(Exit::Done)
    }
}

//! `millstream build`

use std::path::PathBuf;

use clap::Args;

use crate::componentize::{self, BuildOptions};
use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Build an operator into a component: a Rust, Go or C project, or a core module built by other means. Needs the
/// language's own compiler and nothing else. Prints the component's path.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project folder, or a core module (.wasm)
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The kind of operator, where neither operator.toml nor the module tells: map, filter, flat_map, aggregate, process, window_process or partition
    #[arg(long, value_name = "KIND")]
    world: Option<String>,
    /// Where the component goes: a .wasm file, or a folder [default: build/ in the project]
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Build {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let options = BuildOptions { out: self.out, world: self.world, stream: true, quick: false };
        let report = componentize::build(&self.project, &options)?;
        let paint = Stream::Stderr.paint();
        let compiler = report
            .language
            .map(|language| format!(" ({} took {})", language.name(), figures::duration(report.compile_time)));
        console::say(format!(
            "{} in {}{}, {}",
            paint.green("built"),
            figures::duration(report.build_time),
            compiler.unwrap_or_default(),
            figures::size(report.bytes)
        ));
        console::result(report.path.display());
        Ok(Exit::Done)
    }
}

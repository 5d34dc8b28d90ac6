//! `millstream capsule ls | show`: calls into components that failed, kept in files.

mod show;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream::capsule::{self, Capsule as Kept, Listed};
use millstream::pipeline::capsules;
use serde::Serialize;

pub(super) use self::show::{table, text};
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{figures, report};

/// Look at calls into components that failed.
#[derive(Debug, Args)]
pub(crate) struct Capsule {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the capsules of a pipeline, or in a folder, the oldest first
    Ls(Ls),
    /// Show a capsule: what failed and why, and what it was called with
    Show(Show),
}

#[derive(Debug, Args)]
struct Ls {
    /// The pipeline: its file or its name; or a folder of capsules
    of: PathBuf,
    /// As JSON objects, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The file
    capsule: PathBuf,
    /// Its facts as a JSON object
    #[arg(long)]
    json: bool,
}

/// Where capsules go of pipelines that do not say: `$XDG_STATE_HOME/millstream/capsules`, else
/// `~/.local/state/millstream/capsules`, else nowhere.
pub(crate) fn root() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("millstream/capsules"))
}

/// Reads a capsule.
pub(super) fn read(path: &Path) -> Result<Kept, Failure> {
    let file = |source| Failure::File { what: "read", path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(file)?;
    Kept::from_bytes(&bytes).map_err(|error| Failure::Capsule { path: path.to_owned(), error })
}

impl Capsule {
    pub(crate) fn json(&self) -> bool {
        match &self.action {
            Action::Ls(ls) => ls.json,
            Action::Show(show) => show.json,
        }
    }

    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Ls(ls) => ls.run(),
            Action::Show(show) => show.run(),
        }
        .map(|()| Exit::Done)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    capsule: &'a Path,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a capsule::Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Ls {
    fn run(self) -> Result<(), Failure> {
        let folder = self.folder()?;
        let file = |source| Failure::File { what: "list", path: folder.clone(), source };
        let listed = capsule::list(&folder).map_err(file)?;
        if listed.is_empty() && !self.json {
            console::say(format!("no capsules in {}", folder.display()));
        }
        for Listed { path, bytes } in listed {
            let capsule = read(&path);
            if self.json {
                let (facts, error) = match &capsule {
                    Ok(capsule) => (Some(&capsule.facts), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                console::result(report::json_line(&Line { capsule: &path, bytes, facts, error }));
                continue;
            }
            let size = figures::size(bytes);
            console::result(match capsule {
                Ok(capsule) => format!("{}\n  {size}  {}", path.display(), show::line(&capsule)),
                Err(error) => format!("{}\n  {size}  {error}", path.display()),
            });
        }
        Ok(())
    }

    /// A folder is meant as it is, a file is a pipeline, and what is neither is a pipeline's name.
    fn folder(&self) -> Result<PathBuf, Failure> {
        if self.of.is_dir() {
            return Ok(self.of.clone());
        }
        let root = root();
        if !self.of.exists() {
            let name = root.map(|root| root.join(&self.of)).filter(|folder| folder.is_dir());
            return name.ok_or_else(|| {
                let of = self.of.display();
                Failure::Usage(format!(
                    "`{of}` is no pipeline file and no folder, and no pipeline `{of}` has capsules here"
                ))
            });
        }
        let spec = millstream::pipeline::read::read(&self.of)?;
        capsules::path(&spec, root.as_deref()).ok_or_else(|| {
            let name = &spec.name.value;
            Failure::Usage(format!(
                "pipeline `{name}` keeps no capsules; write `capsules = {{ folder = \"capsules\" }}`"
            ))
        })
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let capsule = read(&self.capsule)?;
        console::result(if self.json { report::json_line(&capsule.facts) } else { text(&capsule) });
        Ok(())
    }
}

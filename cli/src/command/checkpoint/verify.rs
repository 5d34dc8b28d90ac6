//! `millstream checkpoint verify`: reads every file of every checkpoint and savepoint.

use std::path::PathBuf;

use clap::Args;
use millstream::checkpoint::{Loaded, Store, StoreError};
use serde::Serialize;

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The pipeline file
    pipeline: PathBuf,
    /// One JSON line each
    #[arg(long)]
    pub(super) json: bool,
}

/// What was found of one of them, for machines.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    /// `checkpoint` or `savepoint`
    kind: &'static str,
    /// an epoch or a name
    name: &'a str,
    /// `whole`, `damaged`, `wrong_key`, or `unread`: the disk or the server did not give it
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_files: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How many of them were found to be what.
#[derive(Debug, Default)]
struct Told {
    json: bool,
    all: usize,
    damaged: usize,
    locked: usize,
    unread: usize,
}

impl Verify {
    pub(super) async fn run(&self) -> Result<Exit, Failure> {
        let store = super::open(&self.pipeline)?;
        let mut told = Told { json: self.json, ..Told::default() };
        for listed in store.list().await? {
            let loaded = with_components(&store, store.load(listed.epoch).await).await;
            told.tell("checkpoint", &listed.epoch.to_string(), loaded);
        }
        for savepoint in store.savepoints().await? {
            let loaded = with_components(&store, store.load_savepoint(&savepoint.name).await).await;
            told.tell("savepoint", &savepoint.name, loaded);
        }
        if told.all == 0 && !self.json {
            console::say(format!("no checkpoints in {}", store.place()));
        }
        told.verdict()
    }
}

/// Reads the components of a checkpoint as well.
async fn with_components(store: &Store, loaded: Result<Loaded, StoreError>) -> Result<Loaded, StoreError> {
    let loaded = loaded?;
    for digest in loaded.manifest.component_files() {
        store.component(digest).await?;
    }
    Ok(loaded)
}

impl Told {
    fn tell(&mut self, kind: &'static str, name: &str, loaded: Result<Loaded, StoreError>) {
        self.all += 1;
        let verdict = match &loaded {
            Ok(_) => "whole",
            Err(StoreError::Key { .. }) => {
                self.locked += 1;
                "wrong_key"
            }
            Err(error) if error.is_passing() => {
                self.unread += 1;
                "unread"
            }
            Err(_) => {
                self.damaged += 1;
                "damaged"
            }
        };
        let files = loaded.as_ref().ok().map(|loaded| loaded.manifest.state_files().count());
        let error = loaded.err().map(|error| error.to_string());
        if self.json {
            console::result(report::json_line(&Verdict { kind, name, verdict, state_files: files, error }));
            return;
        }
        let what = if verdict == "wrong_key" { "wrong key: " } else { "" };
        // the store says whose error it is, and so does the line
        let own = format!("checkpoint {name}: ");
        let error = error.map(|error| error.strip_prefix(&own).map(str::to_owned).unwrap_or(error));
        let name = if kind == "savepoint" { format!("savepoint `{name}`") } else { format!("{kind} {name}") };
        console::result(match error {
            None => format!("{name}: whole, {} state files", files.unwrap_or_default()),
            Some(error) => format!("{name}: {}", Stream::Stdout.paint().red(format!("{what}{error}"))),
        });
    }

    fn verdict(self) -> Result<Exit, Failure> {
        let Self { all, damaged, locked, unread, .. } = self;
        let mut reasons = Vec::new();
        if damaged > 0 {
            reasons.push(format!("{damaged} of {all} are damaged"));
        }
        if locked > 0 {
            reasons.push(format!(
                "{locked} of {all} cannot be read with the keys that are given, which says nothing about damage; give the key \
                 that they were written with (`encrypt` of `checkpoint`)"
            ));
        }
        if unread > 0 {
            reasons.push(format!("{unread} of {all} could not be read, which says nothing about damage either"));
        }
        if reasons.is_empty() { Ok(Exit::Done) } else { Err(Failure::NotVerified(reasons.join(", and "))) }
    }
}

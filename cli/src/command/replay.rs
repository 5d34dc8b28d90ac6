//! `millstream replay`: makes a call again that failed.

mod stored;

use std::path::{Path, PathBuf};

use clap::Args;
use millstream::capsule::{self, Capsule, Failure as Outcome, Replay as Made, answer_tables};
use serde::Serialize;
use serde_json::Value;

use super::capsule::{read, table, text};
use super::state::as_json;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;

/// Make a call again that failed, with what it was called with, its configuration, limits, clock and random numbers.
///
/// Ends with 0 when the same failure comes again (with --component: when the call succeeds now), with 1 when not, and with
/// 2 when the call cannot be made.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The capsule
    capsule: PathBuf,
    /// Call this component, in place of the one that failed
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// The value of an environment variable that the configuration has a secret from; else it is taken from the environment
    #[arg(long = "secret", value_name = "VARIABLE=VALUE", value_parser = secret)]
    secrets: Vec<(String, String)>,
    /// Look in the checkpoint store of this pipeline file for the component, in place of that of the file the capsule names
    #[arg(long, value_name = "FILE", conflicts_with = "component")]
    pipeline: Option<PathBuf>,
    /// Show the capsule first
    #[arg(long, conflicts_with = "json")]
    show: bool,
    /// What came of it as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((variable, value)) if !variable.is_empty() => Ok((variable.to_owned(), value.to_owned())),
        // the text may be the secret itself: it is not repeated
        _ => Err("expected VARIABLE=VALUE".to_owned()),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    capsule: &'a Path,
    digest: String,
    /// the failure of the capsule, to the letter
    same: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answer: Vec<ToldTable>,
}

#[derive(Serialize)]
struct ToldTable {
    name: String,
    rows: Vec<Value>,
}

impl Replay {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let capsule = read(&self.capsule)?;
        if self.show {
            console::result(text(&capsule));
        }
        let given = |variable: &str| self.secrets.iter().find(|(known, _)| known == variable);
        let value =
            |variable: &str| given(variable).map(|(_, value)| value.clone()).or_else(|| std::env::var(variable).ok());
        let sandbox = super::sandbox()?;
        let component = match &self.component {
            Some(other) => sandbox.load(other)?,
            None => stored::that_failed(&capsule, self.pipeline.as_deref(), &sandbox)?,
        };
        let made =
            capsule::replay_with(&capsule, &component, &value).map_err(|error| Failure::Replay(Box::new(error)))?;
        console::result(if self.json { self.told(&made)? } else { self.said(&capsule, &made) });
        let as_hoped = if self.component.is_some() { made.outcome.is_ok() } else { made.same };
        Ok(if as_hoped { Exit::Done } else { Exit::RunFailed })
    }

    fn said(&self, capsule: &Capsule, made: &Made) -> String {
        let then = &capsule.facts.failure;
        let which = match &self.component {
            Some(file) => format!("{} ({})", file.display(), made.digest.short()),
            None => format!("the component that failed ({})", made.digest.short()),
        };
        match &made.outcome {
            Ok(answer) => {
                let mut lines = vec![format!("{which}: the call succeeds; then {}: {}", then.word(), then.message())];
                lines.extend(answer_tables(answer).iter().map(|(name, rows)| table(name, rows)));
                lines.join("\n")
            }
            Err(error) if made.same => format!("{which}: the same failure\n  {}: {error}", then.word()),
            Err(error) => {
                let now = Outcome::of(error).map_or("failure", |now| now.word());
                format!("{which}: another failure\n  now  {now}: {error}\n  then {}: {}", then.word(), then.message())
            }
        }
    }

    fn told(&self, made: &Made) -> Result<String, Failure> {
        let mut told = Told {
            capsule: &self.capsule,
            digest: made.digest.to_string(),
            same: made.same,
            failure: made.outcome.as_ref().err().and_then(Outcome::of),
            answer: Vec::new(),
        };
        for (name, rows) in made.outcome.as_ref().map(answer_tables).unwrap_or_default() {
            let objects = as_json(&rows).map_err(|reason| Failure::Usage(format!("`{name}` as JSON: {reason}")))?;
            let rows = objects.iter().filter_map(|object| serde_json::from_str(object).ok());
            told.answer.push(ToldTable { name, rows: rows.collect() });
        }
        Ok(report::json_line(&told))
    }
}

//! The log: on stderr, filtered by `--log` or `MILLSTREAM_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::console::{LogWriter, Stream};
use crate::failure::Failure;

/// What is logged when nothing is asked for: what needs attention, and what operators say.
const FILTER: &str = "warn,millstream::guest=info";

/// Starts logging; `filter` is what `--log` says, in the syntax of `tracing_subscriber::EnvFilter`.
pub(crate) fn start(filter: Option<&str>, json: bool) -> Result<(), Failure> {
    let from_environment = std::env::var("MILLSTREAM_LOG").ok().filter(|filter| !filter.is_empty());
    let text = filter.or(from_environment.as_deref()).unwrap_or(FILTER);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        Failure::Usage(format!(
            "cannot read the log filter `{text}`: {error}; write a level such as `info` or `warn,millstream=debug`"
        ))
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(Stream::Stderr.is_coloured());
    let started = if json { subscriber.json().finish().try_init() } else { subscriber.finish().try_init() };
    started.map_err(|error| Failure::Process { what: "start the log", reason: error.to_string() })
}

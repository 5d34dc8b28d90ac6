//! Standard input: partition 0 of subtask 0, read by a thread of its own.
//!
//! The thread cannot be interrupted while it waits for input: when the source is dropped it ends with its next line, or
//! with the process.

use std::io;
use std::path::PathBuf;

use super::feed::{Arrival, Fed, Feed, Feeder};
use super::pump::{Cut, Framing, PumpError, READ_BYTES, pump};
use super::{SourceContext, SourceError};
use crate::format::{Format, Framer};

const PARTITION: u32 = 0;

pub(super) fn open(context: SourceContext) -> Result<Feed, SourceError> {
    if context.subtask != 0 {
        return Feed::empty(&context);
    }
    let (feed, feeder) = Feed::new(&context, false, Arrival::IsEventTime, vec![PARTITION])?;
    let name = context.name.clone();
    let format = context.format.unwrap_or(Format::Text);
    std::thread::Builder::new()
        .name(format!("stdin-{name}"))
        .spawn(move || read(&name, format, &feeder))
        .map_err(|error| file_error(&context.name, "read", error))?;
    Ok(feed)
}

fn read(name: &str, format: Format, feeder: &Feeder) {
    let framer = Framer::new(format, super::Framing::Lines);
    let framing = Framing::new(PARTITION, framer, feeder.spare());
    let mut buffer = vec![0; READ_BYTES];
    let last = match pump(io::stdin().lock(), &mut buffer, framing, Cut::EveryRead, feeder) {
        Ok(()) => [Fed::PartitionEnded { partition: PARTITION }, Fed::End].map(Some),
        Err(PumpError::Read(error)) => [Some(Fed::Failed(file_error(name, "read", error))), None],
        Err(PumpError::Dropped) => return,
    };
    for fed in last.into_iter().flatten() {
        if feeder.send(fed).is_err() {
            return;
        }
    }
}

fn file_error(name: &str, action: &'static str, error: io::Error) -> SourceError {
    SourceError::File { source_name: name.to_owned(), action, path: PathBuf::from("standard input"), error }
}

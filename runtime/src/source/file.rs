//! Files: one, all of a folder, or all that match a pattern, each a partition. File `i` in the order of names belongs to subtask
//! `i mod parallelism`; a subtask reads its files one after the other, by a thread of its own.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::feed::{Arrival, Fed, Feed, Feeder};
use super::pump::{Cut, Framing, PumpError, READ_BYTES, pump};
use super::{SourceContext, SourceError, glob};
use crate::format::{Format, Framer};

#[cfg(test)]
mod tests;

/// A file that a subtask reads.
pub(super) struct Input {
    pub(super) partition: u32,
    pub(super) path: PathBuf,
}

/// Finds the files (`header`: csv files begin with one); that there is none is an error, that another subtask has them all is not.
pub(super) fn open(path: &str, header: bool, context: SourceContext) -> Result<Feed, SourceError> {
    let inputs = inputs(path, &context)?;
    if inputs.is_empty() {
        return Feed::empty(&context);
    }
    let partitions = inputs.iter().map(|input| input.partition).collect();
    let (feed, feeder) = Feed::new(&context, header, Arrival::IsNothing, partitions)?;
    let name = context.name.clone();
    let format = context.format.unwrap_or(Format::Text);
    let first = inputs.first().map(|input| input.path.clone()).unwrap_or_default();
    std::thread::Builder::new()
        .name(format!("file-{name}"))
        .spawn(move || read_all(&name, format, inputs, &feeder))
        .map_err(|error| file_error(&context.name, "start a thread to read", first, error))?;
    Ok(feed)
}

/// This subtask's files.
pub(super) fn inputs(path: &str, context: &SourceContext) -> Result<Vec<Input>, SourceError> {
    let path = context.base.join(path);
    let found = glob::matches(&path).map_err(|error| file_error(&context.name, "list", path.clone(), error))?;
    if found.is_empty() {
        return Err(SourceError::NoSuchFile { source_name: context.name.clone(), path });
    }
    let parallelism = context.parallelism.max(1);
    let mine = found.into_iter().enumerate().filter(|(i, _)| i % parallelism == context.subtask);
    let inputs: Vec<Input> =
        mine.map(|(i, path)| Input { partition: u32::try_from(i).unwrap_or(u32::MAX), path }).collect();
    // what cannot be read is told before the pipeline starts, not in the middle of it
    for input in &inputs {
        open_file(&context.name, &input.path)?;
    }
    Ok(inputs)
}

pub(super) fn open_file(name: &str, path: &Path) -> Result<File, SourceError> {
    let open = || {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
        }
        Ok(file)
    };
    open().map_err(|error| file_error(name, "open", path.to_owned(), error))
}

fn read_all(name: &str, format: Format, inputs: Vec<Input>, feeder: &Feeder) {
    let mut buffer = vec![0; READ_BYTES];
    for Input { partition, path } in inputs {
        let read = open_file(name, &path).and_then(|file| {
            let framing = Framing::new(partition, Framer::new(format, super::Framing::Lines), feeder.spare());
            match pump(file, &mut buffer, framing, Cut::WhenFull, feeder) {
                Ok(()) => Ok(feeder.send(Fed::PartitionEnded { partition })),
                Err(PumpError::Dropped) => Ok(Err(super::feed::Dropped)),
                Err(PumpError::Read(error)) => Err(file_error(name, "read", path, error)),
            }
        });
        match read {
            Ok(Ok(())) => {}
            Ok(Err(super::feed::Dropped)) => return,
            Err(error) => {
                let _ = feeder.send(Fed::Failed(error));
                return;
            }
        }
    }
    let _ = feeder.send(Fed::End);
}

pub(super) fn file_error(name: &str, action: &'static str, path: PathBuf, error: std::io::Error) -> SourceError {
    SourceError::File { source_name: name.to_owned(), action, path, error }
}

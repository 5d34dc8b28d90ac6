//! Files: one, all of a folder, or all that match a pattern, each a partition. File `i` in the order of names belongs to subtask
//! `i mod parallelism`; a subtask reads its files one after the other, by a thread of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::feed::{Arrival, Fed, Feed, Feeder};
use super::pump::{Cut, Framing, PumpError, READ_BYTES, pump};
use super::{SourceContext, SourceError, Trickle, glob};
use crate::format::{Format, Framer};
use crate::record::Position;

mod resume;

#[cfg(test)]
mod tests;

/// A file that a subtask reads.
pub(super) struct Input {
    pub(super) partition: u32,
    pub(super) path: PathBuf,
    /// where to begin, and whether there is anything left to read
    position: Position,
}

/// Finds the files (`header`: csv files begin with one); that there is none is an error, that another subtask has them all is not.
pub(super) fn open(path: &str, header: bool, context: SourceContext) -> Result<Feed, SourceError> {
    let inputs = inputs(path, &context)?;
    if inputs.is_empty() {
        return Feed::empty(&context);
    }
    let unread = inputs.iter().filter(|input| !input.position.ended);
    let partitions = unread.map(|input| input.partition).collect();
    let (feed, feeder) = Feed::new(&context, header, Arrival::IsNothing, partitions)?;
    let feed = feed.starting_at(inputs.iter().map(|input| (input.partition, input.position.clone())));
    let name = context.name.clone();
    let format = context.format.unwrap_or(Format::Text);
    let first = inputs.first().map(|input| input.path.clone()).unwrap_or_default();
    std::thread::Builder::new()
        .name(format!("file-{name}"))
        .spawn(move || read_all(&name, format, inputs, context.trickle, &feeder))
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
    let found_names: Vec<String> = found.iter().map(|path| partition_name(path, &context.base)).collect();
    let parallelism = context.parallelism.max(1);
    let mine = found.into_iter().enumerate().filter(|(i, _)| i % parallelism == context.subtask);
    let mut inputs: Vec<Input> = mine
        .map(|(i, path)| {
            let name = partition_name(&path, &context.base);
            let known = context.restore.as_ref().and_then(|positions| positions.get(&name)).cloned();
            let position = known.unwrap_or_else(|| Position::new(name, 0, false));
            Input { partition: u32::try_from(i).unwrap_or(u32::MAX), path, position }
        })
        .collect();
    // what cannot be read is told before the pipeline starts, not in the middle of it
    for input in &mut inputs {
        if input.position.next > 0 {
            resume::resume(&input.path, &mut input.position, context)?;
        }
        if !input.position.ended {
            open_file(&context.name, &input.path)?;
        }
    }
    if context.subtask == 0 {
        none_missing(&found_names, context)?;
    }
    Ok(inputs)
}

/// What a file is called in positions: its path as the pipeline file sees it, the same from whatever folder it is run.
fn partition_name(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned()
}

/// Refuses to go on where a file that was half read is gone.
fn none_missing(found: &[String], context: &SourceContext) -> Result<(), SourceError> {
    let unread = context.restore.iter().flat_map(|positions| positions.iter()).filter(|position| !position.ended);
    match unread.into_iter().find(|position| !found.contains(&position.partition)) {
        Some(gone) => Err(SourceError::FileGone {
            source_name: context.name.clone(),
            path: gone.partition.clone().into(),
            position: gone.next,
        }),
        None => Ok(()),
    }
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

fn open_at(name: &str, path: &Path, position: u64) -> Result<File, SourceError> {
    let mut file = open_file(name, path)?;
    // nothing more can be found after `u64::MAX`; files cannot be that large
    let to = if position == u64::MAX { SeekFrom::End(0) } else { SeekFrom::Start(position) };
    file.seek(to).map_err(|error| file_error(name, "go to where reading stopped in", path.to_owned(), error))?;
    Ok(file)
}

fn read_all(name: &str, format: Format, inputs: Vec<Input>, trickle: Option<Trickle>, feeder: &Feeder) {
    let mut buffer = vec![0; trickle.map_or(READ_BYTES, |trickle| trickle.bytes.max(1))];
    let cut = if trickle.is_some() { Cut::EveryRead } else { Cut::WhenFull };
    let pause = trickle.map_or(Duration::ZERO, |trickle| trickle.pause);
    for Input { partition, path, position } in inputs {
        if position.ended {
            continue;
        }
        let read = open_at(name, &path, position.next).and_then(|file| {
            let framer = Framer::starting_at(format, super::Framing::Lines, position.next);
            let framing = Framing::new(partition, framer, feeder.spare());
            match pump(Paced { file, pause }, &mut buffer, framing, cut, feeder) {
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

/// A file with a pause before each read.
struct Paced {
    file: File,
    pause: Duration,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        self.file.read(buffer)
    }
}

pub(super) fn file_error(name: &str, action: &'static str, path: PathBuf, error: std::io::Error) -> SourceError {
    SourceError::File { source_name: name.to_owned(), action, path, error }
}

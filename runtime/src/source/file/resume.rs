//! Going on with a file that has been read before, perhaps to its end: what was appended since is read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::file_error;
use crate::format::Format;
use crate::record::Position;
use crate::source::{SourceContext, SourceError};

/// Finds where reading goes on in a file that has been read up to `position`, and whether anything is left to be read.
///
/// A last line without a line end is a record when the file ends there. A line end that has come since belongs to it; more
/// of the line does not fit what was done with its start, and is refused.
pub(super) fn resume(path: &Path, position: &mut Position, context: &SourceContext) -> Result<(), SourceError> {
    let source_name = context.name.clone();
    // broken MessagePack: nothing after it can be told apart
    if position.next == u64::MAX {
        return Ok(());
    }
    let failed = |error| file_error(&source_name, "look at", path.to_owned(), error);
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if position.next > bytes {
        return Err(SourceError::FileReplaced { source_name, path: path.to_owned(), bytes, position: position.next });
    }
    if position.next < bytes && context.format != Some(Format::Msgpack) {
        match around(path, position.next).map_err(failed)?.as_slice() {
            [b'\n', ..] => {}
            [_, b'\n', ..] => position.next += 1,
            [_, b'\r', b'\n'] => position.next += 2,
            _ => {
                let (path, position) = (path.to_owned(), position.next);
                return Err(SourceError::LineContinued { source_name, path, position });
            }
        }
    }
    position.ended &= position.next == bytes;
    Ok(())
}

/// The byte before `next` and up to two from there on.
fn around(path: &Path, next: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(next.saturating_sub(1)))?;
    let mut bytes = Vec::new();
    file.take(3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

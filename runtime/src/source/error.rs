//! Why a source cannot be opened or go on.

use std::io;
use std::path::PathBuf;

use crate::format::{DecoderError, ParquetError};

/// A source cannot be opened or cannot go on. Records that cannot be decoded are not this: they come as
/// [`BadRecord`](crate::format::BadRecord)s.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `path` names nothing
    #[error("source `{source_name}`: no file matches `{}`; expected an existing file, a folder with files, or a pattern with `*` or `?` in its last part", path.display())]
    NoSuchFile {
        /// the source
        source_name: String,
        /// what was looked for, with the pipeline's folder before it
        path: PathBuf,
    },
    /// a file or standard input cannot be read
    #[error("source `{source_name}`: cannot {action} `{}`: {error}", path.display())]
    File {
        /// the source
        source_name: String,
        /// `open`, `read`, `list`
        action: &'static str,
        /// which file
        path: PathBuf,
        /// what the system said
        error: io::Error,
    },
    /// a file is shorter than what has been read of it
    #[error(
        "source `{source_name}`: `{}` has {bytes} bytes, but {position} of it had been read at the checkpoint; it was replaced or cut off: put it back, or start anew with --fresh",
        path.display()
    )]
    FileReplaced {
        /// the source
        source_name: String,
        /// which file
        path: PathBuf,
        /// its size now
        bytes: u64,
        /// how far it had been read
        position: u64,
    },
    /// the end of a file was in the middle of a line
    #[error(
        "source `{source_name}`: the last line of `{}` had no line end and was taken as it was when the file ended at byte {position}, but has been continued since; end lines before the input ends, or start anew with --fresh",
        path.display()
    )]
    LineContinued {
        /// the source
        source_name: String,
        /// which file
        path: PathBuf,
        /// where it had ended
        position: u64,
    },
    /// a file that was being read is not there any more
    #[error(
        "source `{source_name}`: `{}` is gone, of which {position} bytes had been read at the checkpoint; put it back, or start anew with --fresh",
        path.display()
    )]
    FileGone {
        /// the source
        source_name: String,
        /// which file, relative to the pipeline's folder
        path: PathBuf,
        /// how far it had been read
        position: u64,
    },
    /// the address to listen on is not to be had
    #[error(
        "source `{source_name}`: cannot listen on `{address}`: {error}; expected a free `host:port` of this machine, port 0 takes any free one"
    )]
    Listen {
        /// the source
        source_name: String,
        /// as written
        address: String,
        /// what the system said
        error: io::Error,
    },
    /// bytes come without a format
    #[error(
        "source `{source_name}` has no format; expected format = \"json\", \"msgpack\", \"csv\", \"text\", \"raw\" or, for files, \"parquet\""
    )]
    NoFormat {
        /// the source
        source_name: String,
    },
    /// a Parquet file that cannot be read, or does not have the columns
    #[error("source `{source_name}`: cannot read `{}`: {error}", path.display())]
    Parquet {
        /// the source
        source_name: String,
        /// which file
        path: PathBuf,
        /// why
        error: ParquetError,
    },
    /// format and schema do not go together
    #[error("source `{source_name}`: {error}")]
    Decoder {
        /// the source
        source_name: String,
        /// what does not fit
        error: DecoderError,
    },
    /// a column that is wanted of the generator but that it does not make, or not so
    #[error("source `{source_name}`: the generator makes no column `{column}`; it makes {known}")]
    NoSuchColumn {
        /// the source
        source_name: String,
        /// name and kind that are wanted
        column: String,
        /// what there is
        known: String,
    },
    /// the broker or topic is not to be had, or a partition cannot be read on
    #[error("source `{source_name}`: kafka topic `{topic}` at `{brokers}`: {reason}")]
    Kafka {
        /// the source
        source_name: String,
        /// as written
        brokers: String,
        /// as written
        topic: String,
        /// what happened, and what to do
        reason: String,
    },
    /// a Kafka property that this source sets itself
    #[error("source `{source_name}`: kafka property `{property}` cannot be set: {why}")]
    RefusedProperty {
        /// the source
        source_name: String,
        /// its name
        property: String,
        /// why not, and what to write instead
        why: &'static str,
    },
    /// built without what the source needs
    #[error("source `{source_name}`: this build has no {feature}; build with `--features {feature}`")]
    NotBuilt {
        /// the source
        source_name: String,
        /// the Cargo feature
        feature: &'static str,
    },
    /// a bug of the host: reported, never a panic
    #[error("source `{source_name}`: internal error: {reason}; please report it")]
    Internal {
        /// the source
        source_name: String,
        /// what did not hold
        reason: String,
    },
}

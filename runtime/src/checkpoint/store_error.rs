//! Why a store does not do what was asked.

use std::io;
use std::path::PathBuf;

use super::state_file::StateFileError;
use crate::objects::ObjectsError;

/// The store does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// the disk or the server does not
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// the file that keeps others away cannot be locked
    #[error("cannot lock `{}`: {source}", path.display())]
    Lock {
        /// which file
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// another process writes checkpoints of this pipeline here
    #[error(
        "`{place}` is in use: another process runs this pipeline ({holder}); stop it, or give this run another store"
    )]
    InUse {
        /// the store's folder of the pipeline
        place: String,
        /// what it says of itself
        holder: String,
    },
    /// another process has written the epoch: it owns the pipeline now
    #[error(
        "another process ({holder}) has written checkpoint {epoch} in `{place}`: this process has been shut out, and what it \
         has written since counts nowhere; start the pipeline again only where no other process runs it"
    )]
    Fenced {
        /// which epoch
        epoch: u64,
        /// the store's folder of the pipeline
        place: String,
        /// who
        holder: String,
    },
    /// another process has taken the store over
    #[error(
        "another process runs this pipeline now ({holder} has taken `{place}` over): this process has been shut out; start the \
         pipeline again only where no other process runs it"
    )]
    TakenOver {
        /// the store's folder of the pipeline
        place: String,
        /// what it says of itself
        holder: String,
    },
    /// state cannot be written
    #[error("the state of step `{step}`: {source}")]
    State {
        /// the step
        step: String,
        /// why
        source: StateFileError,
    },
    /// a checkpoint cannot be encrypted
    #[error("checkpoint {name} cannot be encrypted: {reason}")]
    Encrypt {
        /// its epoch or name
        name: String,
        /// why
        reason: String,
    },
    /// a checkpoint is encrypted and the key is not there: nothing is damaged
    #[error("checkpoint {name}: {reason}; give the key in `checkpoint.encrypt`")]
    Key {
        /// its epoch or name
        name: String,
        /// which key
        reason: String,
    },
    /// a checkpoint cannot be used
    #[error("checkpoint {name}: {reason}")]
    Damaged {
        /// its epoch or name
        name: String,
        /// why
        reason: String,
    },
    /// a version's component cannot be used
    #[error("component {digest}: {reason}")]
    Component {
        /// SHA-256 of the file, hexadecimal
        digest: String,
        /// why
        reason: String,
    },
    /// no such checkpoint or savepoint
    #[error("there is no {what} {name}; there are {known}")]
    Unknown {
        /// `checkpoint` or `savepoint`
        what: &'static str,
        /// as asked for
        name: String,
        /// what there is
        known: String,
    },
    /// a savepoint's name is taken, or no name
    #[error("a savepoint cannot be called `{name}`: {reason}")]
    Name {
        /// as asked for
        name: String,
        /// why
        reason: &'static str,
    },
    /// the process is ending
    #[error("the process is ending: {0}")]
    Ending(String),
}

impl StoreError {
    /// Whether the same may succeed later: nothing is wrong but the disk or the way to the server.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Objects(_) | Self::Lock { .. })
    }
}

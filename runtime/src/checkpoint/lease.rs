//! Who may write in a store.
//!
//! On a local disk a lock keeps a second process away, and the system gives it back when its holder dies, however it dies.
//! No server does that. There the last to start takes the store over: it writes the lease object, and whoever finds
//! another's name in it stops. Between that look and the manifest lies a gap, which is why the lease only spares work: what
//! decides is that of two processes one can make the manifest of an epoch.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use super::store_error::StoreError;
use crate::objects::Objects;

const LEASE: &str = "lease";

/// The right to write. A lock is given back when this is dropped, at the latest when the process ends.
#[derive(Debug)]
pub struct Lease {
    held: Held,
}

#[derive(Debug)]
enum Held {
    Lock { _locked: File },
    Object { objects: Objects, says: String },
}

impl Lease {
    /// Takes the store; `says` is told to whoever comes later.
    pub(super) async fn take(objects: &Objects, says: &str) -> Result<Self, StoreError> {
        if let Some(folder) = objects.local_folder() {
            let path = folder.join(LEASE);
            return match lock(&path, says).map_err(|source| StoreError::Lock { path, source })? {
                Ok(locked) => Ok(Self { held: Held::Lock { _locked: locked } }),
                Err(holder) => Err(StoreError::InUse { place: objects.shown(""), holder }),
            };
        }
        if let Some(before) = objects.get(LEASE).await? {
            let before = String::from_utf8_lossy(&before).into_owned();
            tracing::info!(store = objects.shown(""), before, "takes the store over");
        }
        objects.put(LEASE, says.as_bytes().to_vec()).await?;
        Ok(Self { held: Held::Object { objects: objects.clone(), says: says.to_owned() } })
    }

    /// Fails where another process has taken the store over.
    pub async fn check(&self) -> Result<(), StoreError> {
        let Held::Object { objects, says } = &self.held else { return Ok(()) };
        match objects.get(LEASE).await? {
            Some(found) if found != says.as_bytes() => {
                let holder = String::from_utf8_lossy(&found).into_owned();
                Err(StoreError::TakenOver { place: objects.shown(""), holder })
            }
            // gone: somebody tidied up, and nobody else claims it
            _ => Ok(()),
        }
    }
}

/// Locks a file for as long as the result lives. `Err` holds what the file says where another process has it.
fn lock(path: &Path, says: &str) -> io::Result<Result<File, String>> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.write_all(says.as_bytes())?;
            Ok(Ok(file))
        }
        Err(TryLockError::WouldBlock) => Ok(Err(std::fs::read_to_string(path).unwrap_or_default())),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

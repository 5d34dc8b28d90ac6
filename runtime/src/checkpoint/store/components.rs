//! The components of versions that a checkpoint names, by digest in `components/`: written once, removed when no kept
//! checkpoint and no savepoint names them any more.
//!
//! A process that has lost its pipeline to another one without knowing it may remove what the other has just written and
//! not named yet; the lease, which is looked at before each checkpoint, leaves it an instant for that. What is lost then
//! is a version to go back to, never state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{Store, StoreError, blocking};
use crate::checkpoint::manifest::Manifest;
use crate::objects::CONCURRENT;

const COMPONENTS: &str = "components";
const ENDING: &str = ".wasm";

impl Store {
    /// Reads a component and checks that it is the one that `digest` (SHA-256, hexadecimal) names.
    pub async fn component(&self, digest: &str) -> Result<Vec<u8>, StoreError> {
        let name = format!("component {digest}");
        let damaged = |reason: String| StoreError::Component { digest: digest.to_owned(), reason };
        if !is_digest(digest) {
            return Err(damaged("expected 64 hexadecimal digits".to_owned()));
        }
        let file = file_of(digest);
        let shown = self.objects.shown(&file);
        let bytes = match self.get(&file, &name).await {
            Err(StoreError::Damaged { reason, .. }) => return Err(damaged(reason)),
            read => read?.ok_or_else(|| damaged(format!("`{shown}` is missing")))?,
        };
        let (bytes, found) = blocking(move || {
            let found = digest_of(&bytes);
            (bytes, found)
        })
        .await?;
        if found == digest { Ok(bytes) } else { Err(damaged(format!("`{shown}` is damaged: its digest is {found}"))) }
    }

    /// Writes those that are not here yet.
    pub(super) async fn put_components(&self, components: BTreeMap<String, Arc<[u8]>>) -> Result<(), StoreError> {
        if components.is_empty() {
            return Ok(());
        }
        let there = self.components_here().await?;
        let missing = components.into_iter().filter(|(digest, _)| !there.contains(digest));
        let missing = missing.map(|(digest, bytes)| (self.clone(), digest, bytes)).collect::<Vec<_>>();
        let written = stream::iter(missing).map(|(store, digest, bytes)| async move {
            let file = file_of(&digest);
            let sealed = store.seal(&file, &digest, bytes.to_vec()).await?;
            store.objects.put(&file, sealed).await?;
            store.change_known(|known| known.extend([digest]));
            Ok::<_, StoreError>(())
        });
        written.buffered(CONCURRENT).try_collect().await
    }

    /// Removes all but those that are `named`.
    pub(super) async fn keep_components(&self, named: &BTreeSet<String>) -> Result<(), StoreError> {
        let there = self.components_here().await?;
        let garbage: Vec<&String> = there.difference(named).collect();
        if garbage.is_empty() {
            return Ok(());
        }
        self.objects.remove(garbage.iter().map(|digest| file_of(digest)).collect()).await?;
        self.change_known(|known| known.retain(|digest| named.contains(digest)));
        Ok(())
    }

    /// Refuses a checkpoint whose components are not all here.
    pub(super) async fn has_components(&self, manifest: &Manifest) -> Result<(), StoreError> {
        for digest in manifest.component_files() {
            let file = file_of(digest);
            if self.objects.size(&file).await?.is_none() {
                let reason = format!("`{}` is missing", self.objects.shown(&file));
                return Err(StoreError::Component { digest: digest.to_owned(), reason });
            }
        }
        Ok(())
    }

    async fn components_here(&self) -> Result<BTreeSet<String>, StoreError> {
        let known = self.components.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let (_, files) = self.objects.list(COMPONENTS).await?;
        let listed: BTreeSet<String> =
            files.iter().filter_map(|file| file.strip_suffix(ENDING)).map(str::to_owned).collect();
        self.components.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| listed.clone());
        Ok(listed)
    }

    fn change_known(&self, change: impl FnOnce(&mut BTreeSet<String>)) {
        if let Some(known) = &mut *self.components.lock().unwrap_or_else(PoisonError::into_inner) {
            change(known);
        }
    }
}

fn file_of(digest: &str) -> String {
    format!("{COMPONENTS}/{digest}{ENDING}")
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

//! A checkpoint is written: state that is not there yet, several files at a time, then the manifest.

use std::collections::HashMap;
use std::sync::PoisonError;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Draft, MANIFEST, Store, StoreError, blocking, folder_of, path_of};
use crate::checkpoint::chunk::{self, Piece};
use crate::checkpoint::epoch::is_overtaken;
use crate::checkpoint::fail_point::fail_point;
use crate::checkpoint::manifest::StateFile;
use crate::checkpoint::state_file::{self, StateFileError};
use crate::objects::CONCURRENT;
use crate::state::Snapshot;

/// State of one task in no more pieces than this is made into bytes at once: it takes milliseconds, and a small pipeline's rows
/// are not to wait for a thread that gives way to others.
const FEW_PIECES: usize = 2;

/// A piece of state in the store.
struct Written {
    file: StateFile,
    /// of a frozen copy: which
    frozen: Option<u128>,
}

impl Store {
    /// Writes a whole checkpoint. Returns how many bytes of it were new. May be repeated after an error, by the same
    /// process: what it writes is the same then.
    pub async fn write(&self, draft: Draft) -> Result<u64, StoreError> {
        let Draft { mut manifest, mut states, components } = draft;
        let (epoch, attempt) = (manifest.epoch, manifest.attempt.clone());
        let mut tasks = Vec::new();
        for (step, task) in manifest.steps.iter().flat_map(|step| step.tasks.iter().map(move |task| (step, task))) {
            let state = states.remove(&(step.step.clone(), task.subtask)).unwrap_or_default();
            let stem = format!("{attempt}-{}-{}", step.step, task.subtask);
            tasks.push((self.clone(), step.step.clone(), stem, state));
        }
        let written = stream::iter(tasks)
            .map(|(store, step, stem, state)| async move { store.write_state(epoch, step, stem, state).await });
        let written: Vec<Vec<Written>> = written.buffered(CONCURRENT).try_collect().await?;
        let tasks = manifest.steps.iter_mut().flat_map(|step| &mut step.tasks);
        let mut frozen = HashMap::new();
        for (task, written) in tasks.zip(written) {
            frozen.extend(written.iter().filter_map(|piece| Some((piece.frozen?, piece.file.clone()))));
            task.state = written.into_iter().map(|piece| piece.file).collect();
        }
        self.put_components(components).await?;
        fail_point("before-manifest");
        let bytes = manifest.encode().map_err(|reason| StoreError::Damaged { name: epoch.to_string(), reason })?;
        let (folder, name) = (folder_of(epoch), epoch.to_string());
        let file = format!("{folder}/{MANIFEST}");
        let sealed = self.seal(&file, &name, bytes).await?;
        let new = manifest.new_state_bytes() + sealed.len() as u64;
        if !self.objects.put_new(&file, sealed).await? {
            // an earlier try may have arrived without our hearing of it
            let found = self.manifest(&folder, &name).await?;
            if found.as_ref() != Some(&manifest) {
                let holder = found.map_or("unknown".to_owned(), |found| format!("attempt {}", found.attempt));
                return Err(StoreError::Fenced { epoch, place: self.place(), holder });
            }
        }
        let newest = self.newest_epoch().await?;
        if is_overtaken(epoch, newest) {
            let holder = newest.map_or_else(String::new, |newest| format!("the process that finished epoch {newest}"));
            return Err(StoreError::Fenced { epoch, place: self.place(), holder });
        }
        fail_point("after-manifest");
        self.remember(&manifest, frozen);
        self.remember_files(&manifest);
        Ok(new)
    }

    /// Frees the frozen copies of large state, which takes half a second for a gigabyte, behind the rows. To be waited for: the next
    /// checkpoint's copies go where these were.
    pub async fn let_go(&self, draft: Draft) {
        if let Err(error) = self.background.run(move || drop(draft)).await {
            tracing::warn!(%error, "copies of state were not freed in the background");
        }
    }

    async fn write_state(
        &self,
        epoch: u64,
        step: String,
        stem: String,
        state: Snapshot,
    ) -> Result<Vec<Written>, StoreError> {
        if state.tables.is_empty() {
            return Ok(Vec::new());
        }
        let pieces = blocking(move || chunk::split(state)).await?;
        let unsplit = |reason| StoreError::State { step: step.clone(), source: StateFileError::Damaged(reason) };
        let pieces = pieces.map_err(unsplit)?;
        let few = pieces.len() <= FEW_PIECES;
        let pieces = pieces.into_iter().enumerate();
        let pieces =
            pieces.map(|(number, piece)| (self.clone(), step.clone(), format!("{stem}-{number}.state"), piece));
        let files = stream::iter(pieces.collect::<Vec<_>>())
            .map(|(store, step, name, piece)| async move { store.write_piece(epoch, &step, (name, few), piece).await });
        files.buffered(CONCURRENT).try_collect().await
    }

    async fn write_piece(
        &self,
        epoch: u64,
        step: &str,
        (name, at_once): (String, bool),
        piece: Piece,
    ) -> Result<Written, StoreError> {
        let frozen = piece.frozen;
        // found or written by this process for the last checkpoint, which is kept: not even the disk is asked
        let last = |id| self.frozen.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(file) = frozen.and_then(last) {
            return Ok(Written { file, frozen });
        }
        let piece = piece.state;
        let encode = move || {
            let piece = piece.made().map_err(|error| StateFileError::Damaged(error.to_string()))?;
            let content = state_file::encode(&piece)?;
            Ok((chunk::digest(&content), crc32fast::hash(&content), content))
        };
        let encoded = if at_once { blocking(encode).await? } else { self.background.run(encode).await? };
        let (digest, crc32, content) = encoded.map_err(|source| StoreError::State { step: step.to_owned(), source })?;
        if let Some(known) = self.known(&digest, content.len() as u64).await? {
            return Ok(Written { file: known, frozen });
        }
        let file = StateFile { epoch, name, bytes: content.len() as u64, crc32, digest };
        let path = path_of(&file);
        let sealed = self.seal(&path, &epoch.to_string(), content).await?;
        if at_once || self.objects.local_folder().is_none() {
            self.objects.put(&path, sealed).await?;
        } else {
            let objects = self.objects.clone();
            self.background.wait_for(async move { objects.put_away(&path, sealed).await }).await??;
        }
        fail_point("state-written");
        Ok(Written { file, frozen })
    }

    /// A file of the last checkpoint with this content. It is there: the last checkpoint is whole, and kept. A local disk
    /// is asked all the same, as that costs nothing.
    async fn known(&self, digest: &str, bytes: u64) -> Result<Option<StateFile>, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        let Some(known) = known.filter(|known| known.bytes == bytes) else { return Ok(None) };
        let there = self.objects.local_folder().is_none() || self.objects.size(&path_of(&known)).await?.is_some();
        Ok(there.then_some(known))
    }

    /// As it is stored: encrypted where there are keys.
    pub(super) async fn seal(&self, file: &str, name: &str, content: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let Some(keys) = self.keys.clone() else { return Ok(content) };
        let bound_to = self.bound_to(file);
        let sealed = blocking(move || keys.encrypt(&bound_to, &content)).await?;
        sealed.map_err(|reason| StoreError::Encrypt { name: name.to_owned(), reason })
    }
}

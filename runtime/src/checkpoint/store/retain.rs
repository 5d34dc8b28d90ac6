//! What is kept: the newest checkpoints, savepoints, and every file that one of them refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use super::{COMMITTED, MANIFEST, Named, Store, StoreError, check_name, folder_of, savepoint_folder};
use crate::checkpoint::manifest::{Manifest, StateFile};

/// Files that are referred to, by the epoch whose folder they are in.
type Referred = BTreeMap<u64, BTreeSet<String>>;

impl Store {
    /// Removes all but the newest `keep` checkpoints up to `upto`, and what was begun before them and never finished: a process
    /// that is late must not remove what a newer one goes on from. Files that a newer checkpoint or a savepoint refers to stay. Where one of these cannot be read, nothing is removed.
    pub async fn retain(&self, keep: usize, upto: u64) -> Result<(), StoreError> {
        let store = self.clone();
        let retain = async move { store.retain_here(keep, upto).await };
        if self.objects.local_folder().is_some() { self.background.wait_for(retain).await? } else { retain.await }
    }

    async fn retain_here(&self, keep: usize, upto: u64) -> Result<(), StoreError> {
        let epochs = self.epochs().await?;
        let (mut kept, mut oldest) = (0, None);
        let (mut referred, mut components) = (Referred::new(), BTreeSet::new());
        for epoch in &epochs {
            if let Some(named) = self.named_by(*epoch).await? {
                named.states.iter().for_each(|file| refer(file, &mut referred));
                components.extend(named.components.iter().cloned());
                if *epoch <= upto {
                    (kept, oldest) = (kept + 1, Some(*epoch));
                }
            }
            if kept == keep.max(1) {
                break;
            }
        }
        let Some(oldest) = oldest else { return Ok(()) };
        for savepoint in self.savepoints().await? {
            let manifest = savepoint.manifest?;
            manifest.state_files().for_each(|(.., file)| refer(file, &mut referred));
            components.extend(manifest.component_files().map(str::to_owned));
        }
        for epoch in epochs.into_iter().filter(|epoch| *epoch < oldest) {
            self.clear(epoch, referred.get(&epoch)).await?;
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).retain(|epoch, _| *epoch >= oldest);
        self.keep_components(&components).await
    }

    /// The files that a checkpoint names; none if it was never finished.
    async fn named_by(&self, epoch: u64) -> Result<Option<Arc<Named>>, StoreError> {
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(manifest) = self.manifest(&folder_of(epoch), &epoch.to_string()).await? else { return Ok(None) };
        Ok(Some(self.remember_files(&manifest)))
    }

    /// Retention need not read this manifest again: manifests are never replaced.
    pub(super) fn remember_files(&self, manifest: &Manifest) -> Arc<Named> {
        let states = manifest.state_files().map(|(.., file)| file.clone()).collect();
        let components = manifest.component_files().map(str::to_owned).collect();
        let named = Arc::new(Named { states, components });
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(manifest.epoch, Arc::clone(&named));
        named
    }

    /// Removes an epoch's files but those that are referred to.
    async fn clear(&self, epoch: u64, referred: Option<&BTreeSet<String>>) -> Result<(), StoreError> {
        let folder = folder_of(epoch);
        let manifest = || vec![format!("{folder}/{MANIFEST}"), format!("{folder}/{COMMITTED}")];
        let Some(referred) = referred else {
            // first what makes it a checkpoint: a half removed one would look damaged
            self.objects.remove(manifest()).await?;
            self.objects.remove_folder(&folder).await?;
            self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(&epoch);
            return Ok(());
        };
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned();
        let files = match left {
            Some(left) => left,
            None => {
                self.objects.remove(manifest()).await?;
                self.objects.list(&folder).await?.1
            }
        };
        let (left, garbage): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| referred.contains(file));
        if !garbage.is_empty() {
            self.objects.remove(garbage.iter().map(|file| format!("{folder}/{file}")).collect()).await?;
        }
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(epoch, left);
        Ok(())
    }

    /// Keeps a checkpoint under a name, without copying its state: retention leaves alone what the name refers to.
    pub async fn save(&self, epoch: u64, name: &str) -> Result<Manifest, StoreError> {
        check_name(name)?;
        let loaded = self.load(epoch).await?;
        let folder = savepoint_folder(name);
        let file = format!("{folder}/{MANIFEST}");
        let taken = || StoreError::Name { name: name.to_owned(), reason: "there is one of this name" };
        if self.objects.size(&file).await?.is_some() {
            return Err(taken());
        }
        if loaded.committed {
            self.objects.put(&format!("{folder}/{COMMITTED}"), Vec::new()).await?;
        }
        let encoded = loaded.manifest.encode();
        let bytes = encoded.map_err(|reason| StoreError::Damaged { name: epoch.to_string(), reason })?;
        let bytes = self.seal(&file, name, bytes).await?;
        if !self.objects.put_new(&file, bytes).await? {
            return Err(taken());
        }
        // retention may have looked for savepoints just before this one was there
        let there = match self.load_savepoint(name).await {
            Ok(_) => self.has_components(&loaded.manifest).await,
            Err(error) => Err(error),
        };
        if let Err(error) = there {
            self.objects.remove_folder(&folder).await?;
            return Err(error);
        }
        Ok(loaded.manifest)
    }
}

fn refer(file: &StateFile, referred: &mut Referred) {
    referred.entry(file.epoch).or_default().insert(file.name.clone());
}

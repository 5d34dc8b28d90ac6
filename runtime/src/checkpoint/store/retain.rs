//! What is kept: the newest checkpoints, savepoints, and every file that one of them refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::{COMMITTED, MANIFEST, Store, StoreError, check_name, folder_of, savepoint_folder};
use crate::checkpoint::manifest::Manifest;

/// Files that are referred to, by the epoch whose folder they are in.
type Referred = BTreeMap<u64, BTreeSet<String>>;

impl Store {
    /// Removes all but the newest `keep` checkpoints, and what was begun before them and never finished. Files that a
    /// newer checkpoint or a savepoint refers to stay. Where one of these cannot be read, nothing is removed.
    pub async fn retain(&self, keep: usize) -> Result<(), StoreError> {
        let listed = self.list().await?;
        let mut kept = Vec::new();
        for listed in listed.into_iter().take(keep.max(1)) {
            kept.push((listed.epoch, listed.manifest?));
        }
        let Some(oldest) = kept.iter().map(|(epoch, _)| *epoch).min() else { return Ok(()) };
        let mut referred = Referred::new();
        kept.iter().for_each(|(_, manifest)| refer(manifest, &mut referred));
        for savepoint in self.savepoints().await? {
            refer(&savepoint.manifest?, &mut referred);
        }
        for epoch in self.epochs().await?.into_iter().filter(|epoch| *epoch < oldest) {
            self.clear(epoch, referred.get(&epoch)).await?;
        }
        Ok(())
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
        if let Err(error) = self.load_savepoint(name).await {
            self.objects.remove_folder(&folder).await?;
            return Err(error);
        }
        Ok(loaded.manifest)
    }
}

fn refer(manifest: &Manifest, referred: &mut Referred) {
    for (.., file) in manifest.state_files() {
        referred.entry(file.epoch).or_default().insert(file.name.clone());
    }
}

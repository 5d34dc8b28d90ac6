//! An object on its way.

use std::time::Duration;

use object_store::WriteMultipart;
use tokio::task::JoinSet;

use super::commit::{Part, Way, pending_name};
use crate::objects::{CONCURRENT, Objects, ObjectsError, PART_BYTES, Resumable};
use crate::sink::SinkEpochs;

/// Between two tries to upload a part.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What one object has got so far.
pub(super) struct Upload {
    name: String,
    pub(super) bytes: u64,
    to: To,
}

enum To {
    /// completed by whoever commits
    Upload(Parts),
    /// renamed by whoever commits
    Pending { name: String, writer: WriteMultipart },
    /// visible once it is finished
    Visible(WriteMultipart),
}

/// Parts of an upload to S3.
struct Parts {
    store: Resumable,
    sink_name: String,
    name: String,
    id: String,
    /// what is not yet a whole part
    rest: Vec<u8>,
    next: usize,
    done: Vec<(usize, String)>,
    running: JoinSet<Result<(usize, String), ObjectsError>>,
}

impl Upload {
    pub(super) async fn begin(
        objects: &Objects,
        sink_name: &str,
        name: String,
        epochs: Option<&SinkEpochs>,
    ) -> Result<Self, ObjectsError> {
        let to = match (epochs, objects.resumable()) {
            (None, _) => To::Visible(objects.upload(&name).await?),
            (Some(_), Some(store)) => {
                let id = retried(sink_name, || store.begin(&name)).await?;
                To::Upload(Parts {
                    store,
                    sink_name: sink_name.to_owned(),
                    name: name.clone(),
                    id,
                    rest: Vec::new(),
                    next: 0,
                    done: Vec::new(),
                    running: JoinSet::new(),
                })
            }
            (Some(epochs), None) => {
                let pending = pending_name(&name, &epochs.attempt);
                let writer = objects.upload(&pending).await?;
                To::Pending { name: pending, writer }
            }
        };
        Ok(Self { name, bytes: 0, to })
    }

    /// Takes bytes in; waits while too many are on their way.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            To::Upload(parts) => parts.write(bytes).await,
            To::Pending { writer, .. } | To::Visible(writer) => {
                let failed = |source| ObjectsError { action: "write", path: self.name.clone(), source };
                writer.wait_for_capacity(CONCURRENT).await.map_err(failed)?;
                writer.write(&bytes);
                Ok(())
            }
        }
    }

    /// Returns once all has arrived; what is to be committed, unless it is visible now.
    pub(super) async fn finish(self, url: &str) -> Result<Option<Part>, ObjectsError> {
        let failed = |source| ObjectsError { action: "write", path: self.name.clone(), source };
        let way = match self.to {
            To::Upload(parts) => {
                let (id, parts) = parts.finish().await?;
                Way::Complete { id, parts }
            }
            To::Pending { name, writer } => {
                writer.finish().await.map_err(failed)?;
                Way::Rename { pending: name }
            }
            To::Visible(writer) => {
                writer.finish().await.map_err(failed)?;
                return Ok(None);
            }
        };
        Ok(Some(Part { url: url.to_owned(), name: self.name, bytes: self.bytes, way }))
    }
}

impl Parts {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), ObjectsError> {
        if self.rest.is_empty() {
            self.rest = bytes;
        } else {
            self.rest.extend_from_slice(&bytes);
        }
        if self.rest.len() >= PART_BYTES { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), ObjectsError> {
        while self.running.len() >= CONCURRENT {
            self.one_done().await?;
        }
        let (store, sink_name) = (self.store.clone(), self.sink_name.clone());
        let (name, id, index) = (self.name.clone(), self.id.clone(), self.next);
        let bytes = std::mem::take(&mut self.rest);
        self.next += 1;
        self.running.spawn(async move {
            let part = retried(&sink_name, || store.part(&name, &id, index, bytes.clone())).await?;
            Ok((index, part))
        });
        Ok(())
    }

    async fn one_done(&mut self) -> Result<(), ObjectsError> {
        match self.running.join_next().await {
            None => Ok(()),
            Some(Ok(part)) => {
                self.done.push(part?);
                Ok(())
            }
            Some(Err(error)) => {
                let source = object_store::Error::JoinError { source: error };
                Err(ObjectsError { action: "upload a part of", path: self.name.clone(), source })
            }
        }
    }

    async fn finish(mut self) -> Result<(String, Vec<String>), ObjectsError> {
        if !self.rest.is_empty() {
            self.send().await?;
        }
        while !self.running.is_empty() {
            self.one_done().await?;
        }
        self.done.sort_unstable_by_key(|(index, _)| *index);
        Ok((self.id, self.done.into_iter().map(|(_, part)| part).collect()))
    }
}

/// Tries until it is done or can never be done: the stream waits meanwhile, nothing is dropped.
async fn retried<T, F: Future<Output = Result<T, ObjectsError>>>(
    sink_name: &str,
    mut work: impl FnMut() -> F,
) -> Result<T, ObjectsError> {
    let mut pause = RETRY_FIRST;
    loop {
        match work().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(sink = sink_name, %error, "trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            done => return done,
        }
    }
}

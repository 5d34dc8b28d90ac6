//! An object on its way.

use std::time::Duration;

use object_store::WriteMultipart;

use super::commit::{Part, pending_name};
use crate::objects::{OBJECT_BYTES_MAX, Objects, ObjectsError, PART_BYTES, with_room};
use crate::sink::SinkEpochs;

/// Between two tries to begin or to put an object.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What one object has got so far.
pub(super) struct Upload {
    objects: Objects,
    sink_name: String,
    /// visible
    name: String,
    /// where it is until it is committed; none where it becomes visible at its end
    pending: Option<String>,
    pub(super) bytes: u64,
    /// what is not yet a whole part
    rest: Vec<u8>,
    /// none for what is smaller than a part: one request
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub(super) fn new(objects: &Objects, sink_name: &str, name: String, epochs: Option<&SinkEpochs>) -> Self {
        let pending = epochs.map(|epochs| pending_name(&name, &epochs.attempt));
        let (objects, sink_name) = (objects.clone(), sink_name.to_owned());
        Self { objects, sink_name, name, pending, bytes: 0, rest: Vec::new(), parts: None }
    }

    fn target(&self) -> &str {
        self.pending.as_deref().unwrap_or(&self.name)
    }

    /// Takes bytes in; waits while too many are on their way.
    pub(super) async fn write(&mut self, mut bytes: Vec<u8>) -> Result<(), ObjectsError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > OBJECT_BYTES_MAX {
            return Err(self.objects.too_large(&self.name));
        }
        self.rest.append(&mut bytes);
        if self.rest.len() < PART_BYTES {
            return Ok(());
        }
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let (objects, target) = (&self.objects, self.target());
                retried(&self.sink_name, || objects.upload(target)).await?
            }
        };
        let failed = |source| ObjectsError { action: "write", path: self.name.clone(), source };
        let mut parts = with_room(parts).await.map_err(failed)?;
        parts.write(&self.rest);
        self.rest.clear();
        self.parts = Some(parts);
        Ok(())
    }

    /// Returns once all has arrived; what is to be committed, unless it is visible now.
    pub(super) async fn finish(mut self, url: &str) -> Result<Option<Part>, ObjectsError> {
        match self.parts.take() {
            Some(mut parts) => {
                let failed = |source| ObjectsError { action: "write", path: self.name.clone(), source };
                parts.write(&self.rest);
                parts.finish().await.map_err(failed)?;
            }
            None => {
                let (objects, target, bytes) = (&self.objects, self.target(), &self.rest);
                retried(&self.sink_name, || objects.put(target, bytes.clone())).await?;
            }
        }
        let Some(pending) = self.pending else { return Ok(None) };
        Ok(Some(Part { url: url.to_owned(), name: self.name, pending, bytes: self.bytes }))
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

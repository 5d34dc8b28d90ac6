//! Writing to what blocks (a pipe that nobody empties, a disk) without holding up the tasks of this thread.

use std::io::{self, Write};

/// A writer whose writes run on the runtime's blocking threads.
pub(super) struct BlockingWriter<W> {
    /// absent while a write runs, and for good if its future was dropped
    writer: Option<W>,
}

impl<W: Send + 'static> BlockingWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer: Some(writer) }
    }

    /// Does something that blocks.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        action: impl FnOnce(&mut W) -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut writer = self.writer.take().ok_or_else(|| io::Error::other("an earlier write was given up"))?;
        let done = tokio::task::spawn_blocking(move || {
            let result = action(&mut writer);
            (writer, result)
        });
        let (writer, result) = done.await.map_err(io::Error::other)?;
        self.writer = Some(writer);
        Ok(result)
    }
}

impl<W: Write + Send + 'static> BlockingWriter<W> {
    /// Writes all of `bytes`, flushes, and empties `bytes`, whose memory is kept.
    pub(super) async fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut taken = std::mem::take(bytes);
        let run = self.run(move |writer| {
            let written = writer.write_all(&taken).and_then(|()| writer.flush());
            taken.clear();
            (written, taken)
        });
        let (written, emptied) = run.await?;
        *bytes = emptied;
        written
    }
}

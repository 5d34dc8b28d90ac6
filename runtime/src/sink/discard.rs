//! Rows that are counted and dropped, for measurements.

use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::record::Batch;

/// Counts.
pub(super) struct Discard {
    context: SinkContext,
    rows: u64,
}

impl Discard {
    pub(super) fn new(context: SinkContext) -> Self {
        Self { context, rows: 0 }
    }
}

impl Sink for Discard {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        self.rows += batch.rows() as u64;
        Box::pin(std::future::ready(Ok(())))
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        tracing::info!(sink = self.context.name, subtask = self.context.subtask, rows = self.rows, "discarded");
        Box::pin(std::future::ready(Ok(())))
    }
}

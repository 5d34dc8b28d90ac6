//! Rows for whoever runs the pipeline in the same process: a bounded channel of batches.

use tokio::sync::mpsc;

use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::record::Batch;

/// The writing end of a channel. A slow reader holds the pipeline back; a reader that has gone away ends the run.
#[derive(Clone, Debug)]
pub struct ChannelSink {
    batches: mpsc::Sender<Batch>,
}

impl ChannelSink {
    /// A sink and the end to read its batches from, `capacity` (at least 1) of which it holds. Batches of several
    /// tasks are mixed, those of one task are in order. The reading end ends when the run has, and all specifications
    /// and handles of the pipeline are dropped: they hold the writing end too.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Batch>) {
        let (batches, reader) = mpsc::channel(capacity.max(1));
        (Self { batches }, reader)
    }
}

impl PartialEq for ChannelSink {
    fn eq(&self, other: &Self) -> bool {
        self.batches.same_channel(&other.batches)
    }
}

impl Eq for ChannelSink {}

/// One task's end.
pub(super) struct Channel {
    sink_name: String,
    batches: mpsc::Sender<Batch>,
}

impl Channel {
    pub(super) fn new(sink: &ChannelSink, context: SinkContext) -> Self {
        Self { sink_name: context.name, batches: sink.batches.clone() }
    }
}

impl Sink for Channel {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async {
            let gone = |_| SinkError::NoReader { sink_name: self.sink_name.clone() };
            self.batches.send(batch.clone()).await.map_err(gone)
        })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, text_batch};
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    #[test]
    fn batches_arrive_in_order_and_the_channel_ends_with_the_sink() {
        let (sink, mut reader) = ChannelSink::new(4);
        let mut open = Box::new(Channel::new(&sink, context("text")));
        drop(sink);
        run(async {
            open.write(&text_batch(&["a", "b"])).await.unwrap();
            open.write(&text_batch(&["c"])).await.unwrap();
            open.finish().await.unwrap();
            assert_eq!((reader.recv().await.unwrap().rows(), reader.recv().await.unwrap().rows()), (2, 1));
            assert!(reader.recv().await.is_none());
        });
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (sink, reader) = ChannelSink::new(1);
        drop(reader);
        let mut open = Channel::new(&sink, context("text"));
        let error = run(open.write(&text_batch(&["a"]))).unwrap_err();
        assert_eq!(error.to_string(), "sink `out`: whoever read its channel is gone");
    }
}

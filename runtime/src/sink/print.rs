//! Records on standard output: one locked write a batch, so that lines of several tasks never mix.

use std::io::{ErrorKind, Write};

use super::blocking::BlockingWriter;
use super::records::Records;
use super::{BoxFuture, Sink, SinkContext, SinkError};
use crate::record::Batch;

/// Prints to `W`: standard output, which locks itself for each write.
pub(super) struct Print<W> {
    sink_name: String,
    records: Records,
    bytes: Vec<u8>,
    out: BlockingWriter<W>,
}

impl<W: Write + Send + 'static> Print<W> {
    pub(super) fn new(out: W, context: &SinkContext) -> Result<Self, SinkError> {
        let records = Records::new(context)?;
        Ok(Self { sink_name: context.name.clone(), records, bytes: Vec::new(), out: BlockingWriter::new(out) })
    }

    async fn print(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.records.append(batch, &mut self.bytes)?;
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.out.write(&mut self.bytes).await.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => SinkError::Closed { sink_name: self.sink_name.clone() },
            _ => SinkError::Print { sink_name: self.sink_name.clone(), error },
        })
    }
}

impl<W: Write + Send + 'static> Sink for Print<W> {
    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.print(batch))
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
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::sink::testing::{context, text_batch};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct NobodyReads;

    impl Write for NobodyReads {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_batch_is_one_write_of_whole_lines() {
        let page = Page::default();
        let mut sink = Print::new(page.clone(), &context("text")).unwrap();
        sink.write(&text_batch(&["a", "", "ü"])).await.unwrap();
        sink.write(&text_batch(&[])).await.unwrap();
        sink.write(&text_batch(&["b"])).await.unwrap();
        Box::new(sink).finish().await.unwrap();
        assert_eq!(*page.0.lock().unwrap(), ["a\n\nü\n".as_bytes(), b"b\n"]);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_told_apart_from_a_fault() {
        let mut sink = Print::new(NobodyReads, &context("text")).unwrap();
        let error = sink.write(&text_batch(&["a"])).await.unwrap_err();
        assert!(matches!(error, SinkError::Closed { .. }), "{error}");
    }
}

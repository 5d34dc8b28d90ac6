//! Connections that others open to send records: each has its framer, its task and its partition number.
//!
//! Numbers are never used twice, so a new connection is not taken for the continuation of an old one. A connection
//! whose records nobody takes is not read: the sender feels it through TCP. Sending is not acknowledged; what was in
//! flight when the process ends is lost.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::feed::{Arrival, Dropped, Fed, Feed, Feeder, StopOnDrop};
use super::pump::{Framed, Framing};
use super::{SourceContext, SourceError};
use crate::format::{Format, Framer, Frames};

#[cfg(test)]
mod tests;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Bytes that one read takes from a connection. Held by each, so not large; reads go on while there is more.
const READ_BYTES: usize = 64 << 10;

/// After an accept that failed (out of descriptors, as a rule) the next is tried so much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens, if this is subtask 0.
pub(super) async fn open(
    listen: &str,
    framing: super::Framing,
    connections: Option<u64>,
    context: SourceContext,
) -> Result<Feed, SourceError> {
    if context.subtask != 0 {
        return Feed::empty(&context);
    }
    let listen_error =
        |error: io::Error| SourceError::Listen { source_name: context.name.clone(), address: listen.to_owned(), error };
    let (feed, feeder) = Feed::new(&context, false, Arrival::IsEventTime, Vec::new())?;
    let listener = TcpListener::bind(listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    tracing::info!(source = context.name, %address, "listening");
    let door = Door {
        name: context.name.clone(),
        format: context.format.unwrap_or(Format::Text),
        framing,
        feeder,
        left: connections,
    };
    let task = tokio::spawn(door.serve(listener));
    Ok(feed.listening(address, StopOnDrop(task)))
}

/// What lets connections in.
struct Door {
    name: String,
    format: Format,
    framing: super::Framing,
    feeder: Feeder,
    /// connections still to come before the source ends; `None` never ends
    left: Option<u64>,
}

impl Door {
    /// Accepts until all connections have come and gone. Being aborted closes them all.
    async fn serve(mut self, listener: TcpListener) {
        let mut open = JoinSet::new();
        let mut partition = 0_u32;
        loop {
            let wanted = self.left != Some(0);
            if !wanted && open.is_empty() {
                break;
            }
            tokio::select! {
                accepted = listener.accept(), if wanted && open.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, from)) => {
                        tracing::debug!(source = self.name, %from, partition, "connected");
                        open.spawn(self.connection(stream, partition));
                        partition = partition.wrapping_add(1);
                        self.left = self.left.map(|left| left.saturating_sub(1));
                    }
                    Err(error) => {
                        tracing::warn!(source = self.name, %error, "cannot accept a connection; trying again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = open.join_next() => {}
            }
        }
        let _ = self.feeder.send_async(Fed::End).await;
    }

    fn connection(&self, stream: TcpStream, partition: u32) -> impl Future<Output = ()> + Send + 'static {
        let framing = Framing::new(partition, Framer::new(self.format, self.framing), Frames::default());
        let (feeder, name) = (self.feeder.clone(), self.name.clone());
        async move {
            if let Err(Interrupted::Lost(error)) = read(stream, framing, &feeder).await {
                tracing::warn!(source = name, partition, %error, "connection lost");
            }
            let _ = feeder.send_async(Fed::PartitionEnded { partition }).await;
        }
    }
}

/// Why a connection was not read to its end.
enum Interrupted {
    Lost(io::Error),
    Dropped,
}

impl From<Dropped> for Interrupted {
    fn from(_: Dropped) -> Self {
        Self::Dropped
    }
}

/// Reads a connection to its end. What came before it broke counts.
async fn read(mut stream: TcpStream, mut framing: Framing, feeder: &Feeder) -> Result<(), Interrupted> {
    let mut buffer = vec![0; READ_BYTES];
    let ended = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Err(error) => break Err(Interrupted::Lost(error)),
            Ok(count) => push(&mut framing, buffer.get(..count).unwrap_or_default(), feeder).await?,
        }
        // what has come meanwhile joins the batch; a record that has come is never kept waiting for the next
        while !framing.is_full() {
            match stream.try_read(&mut buffer) {
                Ok(count) if count > 0 => {
                    push(&mut framing, buffer.get(..count).unwrap_or_default(), feeder).await?;
                }
                _ => break,
            }
        }
        send(framing.take(|| feeder.spare()), framing.partition(), feeder).await?;
    };
    let partition = framing.partition();
    send(framing.finish(), partition, feeder).await?;
    ended
}

/// Takes bytes in, sending batches that are full.
async fn push(framing: &mut Framing, mut bytes: &[u8], feeder: &Feeder) -> Result<(), Dropped> {
    while !bytes.is_empty() {
        bytes = framing.push(bytes);
        if framing.is_full() || !bytes.is_empty() {
            send(framing.take(|| feeder.spare()), framing.partition(), feeder).await?;
        }
    }
    Ok(())
}

async fn send(framed: Option<Framed>, partition: u32, feeder: &Feeder) -> Result<(), Dropped> {
    match framed {
        Some(Framed { frames, bad, next }) => feeder.send_async(feeder.records(partition, frames, bad, next)).await,
        None => Ok(()),
    }
}

//! Connections that others open to send records: each has its framer, its task and its partition number.
//!
//! Numbers are never used twice, so a new connection is not taken for the continuation of an old one. A connection
//! whose records nobody takes is not read: the sender feels it through TCP. Sending is not acknowledged; what was in
//! flight when the process ends is lost.
//!
//! What connections hold of records that are not complete is bounded in all, and so is how long a sender may be silent in
//! the middle of one: who exceeds a bound is logged and closed, and the record is a bad one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::feed::{Arrival, Dropped, Fed, Feed, Feeder, StopOnDrop};
use super::pump::{Framed, Framing};
use super::{SourceContext, SourceError};
use crate::format::{Format, Framer, Frames};
use crate::limits;

#[cfg(test)]
mod tests;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Bytes that one read takes from a connection. Held by each, so not large; reads go on while there is more.
const READ_BYTES: usize = 64 << 10;

/// After an accept that failed (out of descriptors, as a rule) the next is tried so much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What unfinished records may cost.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// of all connections
    held_bytes: usize,
    /// of each in the middle of a record
    silence: Duration,
}

/// Listens, if this is subtask 0.
pub(super) async fn open(
    listen: &str,
    framing: super::Framing,
    connections: Option<u64>,
    context: SourceContext,
) -> Result<Feed, SourceError> {
    let bounds = Bounds { held_bytes: limits::TCP_HELD_BYTES_MAX, silence: limits::TCP_SILENCE_MAX };
    open_bounded(listen, framing, connections, bounds, context).await
}

async fn open_bounded(
    listen: &str,
    framing: super::Framing,
    connections: Option<u64>,
    bounds: Bounds,
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
        bounds,
        held: Arc::default(),
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
    bounds: Bounds,
    /// bytes of unfinished records of all connections
    held: Arc<AtomicUsize>,
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
        let held = Held { bounds: self.bounds, all: Arc::clone(&self.held), own: 0 };
        async move {
            match read(stream, framing, held, &feeder).await {
                Err(Interrupted::Lost(error)) => tracing::warn!(source = name, partition, %error, "connection lost"),
                Err(Interrupted::Closed(reason)) => {
                    tracing::warn!(source = name, partition, reason, "connection closed")
                }
                Err(Interrupted::Dropped) | Ok(()) => {}
            }
            let _ = feeder.send_async(Fed::PartitionEnded { partition }).await;
        }
    }
}

/// Why a connection was not read to its end.
enum Interrupted {
    Lost(io::Error),
    /// it exceeded a bound
    Closed(String),
    Dropped,
}

/// What a connection holds of an unfinished record, as part of what all hold.
struct Held {
    bounds: Bounds,
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Held {
    /// Notes what the connection holds now. The error is why it is closed: all together hold too much, and it more than its
    /// even share, so that those who send small records are left alone.
    fn set(&mut self, own: usize) -> Result<(), String> {
        let before = self.all.fetch_add(own, Ordering::Relaxed);
        self.all.fetch_sub(self.own, Ordering::Relaxed);
        let all = before.saturating_add(own).saturating_sub(self.own);
        self.own = own;
        let Bounds { held_bytes, .. } = self.bounds;
        if all <= held_bytes || own <= held_bytes / CONNECTIONS_MAX {
            return Ok(());
        }
        Err(format!("unfinished records of all connections hold {all} bytes, at most {held_bytes}; this one's {own}"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

impl From<Dropped> for Interrupted {
    fn from(_: Dropped) -> Self {
        Self::Dropped
    }
}

/// Reads a connection to its end. What came before it broke counts.
async fn read(mut stream: TcpStream, mut framing: Framing, mut held: Held, feeder: &Feeder) -> Result<(), Interrupted> {
    let mut buffer = vec![0; READ_BYTES];
    let ended = loop {
        match some(&mut stream, &mut buffer, framing.is_inside_record().then_some(held.bounds.silence)).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && framing.is_inside_record() => {
                let silence = held.bounds.silence;
                let reason = format!("expected the rest of a record, got nothing for {silence:?}");
                framing.abandon(&reason);
                break Err(Interrupted::Closed(reason));
            }
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
        if let Err(reason) = held.set(framing.held_bytes()) {
            framing.abandon(&reason);
            break Err(Interrupted::Closed(reason));
        }
    };
    let partition = framing.partition();
    send(framing.finish(), partition, feeder).await?;
    ended
}

/// The next bytes, which may come as late as they like unless there is a `limit`.
async fn some(stream: &mut TcpStream, buffer: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
    let read = stream.read(buffer);
    match limit {
        Some(limit) => tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => read.await,
    }
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

//! Ctrl-C and SIGTERM: the first asks a run to finish, a Ctrl-C after that ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// take nothing more in, finish what is there
    Stop,
    /// end now
    Abort,
}

/// Signals of this process, listened to from [`Interrupts::listen`] on.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    stopping: bool,
}

impl Interrupts {
    /// From now on signals no longer end the process by themselves. Needs a tokio runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Process { what: "listen to signals", reason: error.to_string() })
        };
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, stopping: false })
    }

    /// Whether a stop was asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Waits for the next request. SIGTERM never aborts, however often it comes. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            let is_interrupt = tokio::select! {
                _ = self.interrupt.recv() => true,
                _ = self.terminate.recv() => false,
            };
            match (std::mem::replace(&mut self.stopping, true), is_interrupt) {
                (false, _) => return Request::Stop,
                (true, true) => return Request::Abort,
                (true, false) => {}
            }
        }
    }
}

//! A TCP proxy that a test makes slow, silent or dead.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a connection looks whether anything has changed.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    Open,
    /// nothing passes, and nobody is told
    Stalled,
    /// connections are closed as soon as they are made
    Cut,
}

#[derive(Debug)]
struct Shared {
    way: Mutex<Way>,
    delay_ms: AtomicU64,
    /// those that are open, to be cut
    open: Mutex<Vec<TcpStream>>,
    passed: AtomicU64,
}

/// Listens until the process ends; connections go on to another port of this machine.
#[derive(Clone, Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes connections to `port` on to `to`.
    pub fn start(port: u16, to: u16) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("cannot listen: {error}"))?;
        let shared = Arc::new(Shared {
            way: Mutex::new(Way::Open),
            delay_ms: AtomicU64::new(0),
            open: Mutex::default(),
            passed: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let accept = move || {
            for client in listener.incoming().flatten() {
                let _ = accepting.connect(client, SocketAddr::from(([127, 0, 0, 1], to)));
            }
        };
        spawn("proxy", accept)?;
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes that have passed, both ways.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Everything passes.
    pub fn open(&self) {
        self.set(Way::Open);
    }

    /// Nothing passes; connections stay.
    pub fn stall(&self) {
        self.set(Way::Stalled);
    }

    /// All connections break, and new ones at once.
    pub fn cut(&self) {
        self.set(Way::Cut);
        for connection in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// What passes takes so much longer, each way.
    pub fn delay(&self, by: Duration) {
        self.shared.delay_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }
}

impl Shared {
    fn way(&self) -> Way {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
        if self.way() == Way::Cut {
            return client.shutdown(Shutdown::Both);
        }
        let server = TcpStream::connect(to)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LOOK_AGAIN_AFTER))?;
            self.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone()?);
        }
        let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        let spawned = spawn("proxy-there", move || there.pass(client, server));
        let spawned = spawned.and_then(|()| spawn("proxy-back", move || back.pass(server_too, client_too)));
        spawned.map_err(std::io::Error::other)
    }

    /// Copies one way until either end closes.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 << 10];
        loop {
            let count = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
            while self.way() == Way::Stalled {
                std::thread::sleep(LOOK_AGAIN_AFTER);
            }
            if bytes.get(..count).is_none_or(|bytes| to.write_all(bytes).is_err()) {
                break;
            }
            self.passed.fetch_add(count as u64, Ordering::Relaxed);
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(|_| ()).map_err(|error| format!("cannot start a thread: {error}"))
}

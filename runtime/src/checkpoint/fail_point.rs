//! Places at which a test can have the process die, as if it had been killed there.
//!
//! Set `MILLSTREAM_FAILPOINT=<name>` or `<name>:<n>` (the nth time). Only checkpoints pass here, never records: one look
//! at a variable that is read once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
static SEEN: AtomicU64 = AtomicU64::new(0);

fn wanted() -> Option<(String, u64)> {
    let text = std::env::var("MILLSTREAM_FAILPOINT").ok()?;
    match text.split_once(':') {
        Some((name, count)) => Some((name.to_owned(), count.parse().ok()?)),
        None => Some((text, 1)),
    }
}

/// Ends the process here, without any cleaning up, where a test has asked for it.
pub fn fail_point(name: &str) {
    if let Some((wanted, count)) = WANTED.get_or_init(wanted)
        && wanted == name
        && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        std::process::abort();
    }
}

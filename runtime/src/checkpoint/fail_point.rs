//! Places at which a test can have the process die, as if it had been killed there.
//!
//! Set `MILLSTREAM_FAILPOINT=<name>` or `<name>:<n>` (the nth time), or `<name>:<n>+` (that time and ever after);
//! `panic@<name>:<n>` lets only the task die. Only checkpoints and swaps pass here, never records: one look at a variable that is
//! read once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
static SEEN: AtomicU64 = AtomicU64::new(0);

struct Wanted {
    name: String,
    count: u64,
    ever_after: bool,
    panics: bool,
}

fn wanted() -> Option<Wanted> {
    let text = std::env::var("MILLSTREAM_FAILPOINT").ok()?;
    let (panics, place) = text.strip_prefix("panic@").map_or((false, text.as_str()), |place| (true, place));
    let (name, count) = place.split_once(':').unwrap_or((place, "1"));
    let ever_after = count.ends_with('+');
    Some(Wanted { name: name.to_owned(), count: count.trim_end_matches('+').parse().ok()?, ever_after, panics })
}

/// Ends the process here, or the task, without any cleaning up, where a test has asked for it.
pub fn fail_point(name: &str) {
    if let Some(wanted) = WANTED.get_or_init(wanted)
        && wanted.name == name
    {
        let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
        if seen < wanted.count || (seen > wanted.count && !wanted.ever_after) {
            return;
        }
        if wanted.panics {
            std::panic::resume_unwind(Box::new(format!("fail point {name}")));
        }
        std::process::abort();
    }
}

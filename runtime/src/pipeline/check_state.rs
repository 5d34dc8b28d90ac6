//! What must hold for state that spills.

use super::problems::{Problems, code};
use super::spec::StateSpec;

/// Least memory for state: what one batch of keys takes.
const MEMORY_BYTES_MIN: usize = 1 << 10;

pub(super) fn check_state(state: &StateSpec, problems: &mut Problems) {
    if state.memory_bytes.value < MEMORY_BYTES_MIN {
        let message = format!("`state.memory` is {} bytes", state.memory_bytes.value);
        problems.add(code::BAD_VALUE, state.memory_bytes.span, message, "expected 1KiB or more", "write `256MiB`");
    }
    if state.spill.value.trim().is_empty() {
        let help = "name a folder on a local disk, as in `/var/tmp/millstream`";
        problems.add(code::BAD_VALUE, state.spill.span, "`state.spill` is empty", "expected a folder", help);
    }
}

//! What must hold for `capsules`.

use crate::pipeline::problems::{Problems, code};
use crate::pipeline::spec::CapsulesSpec;

/// Capsules kept at most: the folder is listed with each that is written.
const KEEP_MAX: usize = 1_000;

/// Least room: a call about one row.
const BYTES_MIN: usize = 64 << 10;

pub(super) fn check(capsules: &CapsulesSpec, problems: &mut Problems) {
    let (keep, bytes_max) = (&capsules.keep, &capsules.bytes_max);
    if !(1..=KEEP_MAX).contains(&keep.value) {
        let message = format!("{} capsules are to be kept", keep.value);
        let help = "the default is 20; `capsules = \"off\"` keeps none";
        problems.add(code::BAD_VALUE, keep.span, message, format!("expected 1 to {KEEP_MAX}"), help);
    }
    if bytes_max.value < BYTES_MIN {
        let message = format!("`max` of `capsules` is {} bytes", bytes_max.value);
        let help = "the default is `16MiB`; `capsules = \"off\"` keeps none";
        problems.add(code::BAD_VALUE, bytes_max.span, message, "expected 64KiB or more", help);
    }
}

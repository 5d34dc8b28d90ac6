//! Where the components are that `cargo xtask guests` builds.

use std::path::{Path, PathBuf};

use crate::measure::Failed;

/// The path of guest `name`.
pub(crate) fn path(name: &str) -> Result<PathBuf, Failed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests").join(format!("{name}.wasm"));
    if file.is_file() { Ok(file) } else { Err(format!("guest {name} is not built: run `cargo xtask guests`")) }
}

//! What was built before the tests: components of `guest-examples`, other versions of them, and the binary.

use std::fs;
use std::path::{Path, PathBuf};

/// The component `<name>.wasm` that `cargo xtask guests` has built; `MILLSTREAM_GUESTS` names another folder for them.
pub fn guest(name: &str) -> Result<PathBuf, String> {
    let file = format!("{name}.wasm");
    let folders = match std::env::var_os("MILLSTREAM_GUESTS") {
        Some(folder) => vec![PathBuf::from(folder)],
        // where golden pipelines find them, then where cargo was told to build
        None => vec![repository().join("target/guests"), target()?.join("guests")],
    };
    let found = folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("no {file} in {}; run `cargo xtask guests`", looked.join(" or "))
    })
}

/// The binary `millstream` of the build that this test belongs to.
pub fn binary() -> Result<PathBuf, String> {
    let binary = target()?.join("release/millstream");
    if binary.is_file() {
        return Ok(binary);
    }
    Err(format!("no {}; run `cargo build --release -p millstream-cli`", binary.display()))
}

/// Puts the component `name` to `to`, as a build tool does: whoever looks sees the old file or the new one.
pub fn install(name: &str, to: &Path) -> Result<(), String> {
    write(to, &read(&guest(name)?)?)
}

/// Writes the component `name` to `to` with `old` replaced by `new`, of the same length, wherever it stands: another
/// version of a guest that was made for it.
pub fn version(name: &str, old: &str, new: &str, to: &Path) -> Result<PathBuf, String> {
    let mut bytes = read(&guest(name)?)?;
    if old.len() != new.len() || old.is_empty() {
        return Err(format!("`{old}` and `{new}` differ in length"));
    }
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, at)| *at == old.as_bytes()).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err(format!("{name}.wasm does not hold `{old}`"));
    }
    for at in places {
        bytes.splice(at..at + old.len(), new.bytes());
    }
    write(to, &bytes)?;
    Ok(to.to_owned())
}

/// Writes the component `name` to `to` with a custom section behind it: the same logic under another digest.
pub fn same_logic(name: &str, to: &Path) -> Result<PathBuf, String> {
    let mut bytes = read(&guest(name)?)?;
    // section 0, 5 bytes: the length of its name, its name
    bytes.extend([0, 5, 4]);
    bytes.extend(b"note");
    write(to, &bytes)?;
    Ok(to.to_owned())
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}

/// The target folder: this program is in `<target>/release/deps`.
fn target() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    program.ancestors().nth(3).map(Path::to_path_buf).ok_or_else(|| format!("{} has no target", program.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).map_err(|error| format!("cannot write {}: {error}", part.display()))?;
    fs::rename(&part, path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

//! The guests of `guest-examples/`, as components in `target/guests/`.
//!
//! Rust's are built in one go by cargo; each other folder has an `operator.toml` and is built by the CLI, if the
//! compiler of its language is there. What is newer than all it is made of is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Failed;
use crate::command::{cargo, exists, is_ci, program, root, run as run_command, say, target};

/// The target of Rust guests.
const TARGET: &str = "wasm32-unknown-unknown";

/// `cargo xtask guests [name..]`: builds all guests, or those that are named.
pub(crate) fn run(names: &[String]) -> Result<(), Failed> {
    let examples = root().join("guest-examples");
    for name in names {
        if !examples.join(name).is_dir() {
            return Err(format!("no guest is called {name}; there are: {}", folders(&examples)?.join(", ")));
        }
    }
    run_command(&mut cargo(&["build", "--release", "--package", "millstream-cli"]))?;
    let cli = target().join("release").join("millstream");
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    rust(&examples, &cli, &wanted)?;
    let mut skipped = Vec::new();
    for name in folders(&examples)?.iter().filter(|name| wanted(name)) {
        skipped.extend(foreign(&examples.join(name), name, &cli)?);
    }
    match skipped.as_slice() {
        [] => Ok(()),
        // a missing compiler must not make a run of continuous integration look complete
        missing if is_ci() => Err(format!("not built: {}", missing.join("; "))),
        missing => {
            say(&format!("skipped: {}", missing.join("; ")));
            Ok(())
        }
    }
}

/// Builds the guests in Rust.
fn rust(examples: &Path, cli: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), Failed> {
    let built = target().join("guest-examples");
    let mut build = cargo(&["build", "--release", "--target", TARGET]);
    // the flags of guest-examples/.cargo/config.toml hold only from there, and those of the caller must not
    build.current_dir(examples).env("CARGO_TARGET_DIR", &built).env_remove("RUSTFLAGS");
    run_command(&mut build)?;
    for name in folders(examples)? {
        let core = built.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
        if wanted(&name) && examples.join(&name).join("Cargo.toml").is_file() {
            let sources = newest(&[core.clone(), cli.to_path_buf()]);
            componentize(cli, &core, &name, sources)?;
        }
    }
    Ok(())
}

/// Builds a guest in another language; answers what is missing, if something is.
fn foreign(folder: &Path, name: &str, cli: &Path) -> Result<Option<String>, Failed> {
    if !folder.join("operator.toml").is_file() {
        return Ok(None);
    }
    let (language, sdk, there) =
        if folder.join("go.mod").is_file() { ("go", "sdk/go", exists("go")) } else { ("c", "sdk/c", c_compiler()) };
    if !there {
        let install = if language == "go" { "https://go.dev/dl" } else { "apt-get install clang lld" };
        return Ok(Some(format!("{name} (no {language} compiler: {install})")));
    }
    let sources = newest(&[folder.to_path_buf(), root().join(sdk), cli.to_path_buf()]);
    componentize(cli, folder, name, sources)?;
    Ok(None)
}

/// Whether one of the compilers is there that `millstream build` would take.
fn c_compiler() -> bool {
    let versioned =
        (14..=22).any(|version| exists(&format!("clang-{version}")) && exists(&format!("wasm-ld-{version}")));
    versioned || (exists("clang") && exists("wasm-ld")) || exists("zig")
}

/// Makes `target/guests/<name>.wasm` of a core module or project, unless it is newer than `sources`.
fn componentize(cli: &Path, from: &Path, name: &str, sources: Option<SystemTime>) -> Result<(), Failed> {
    let out = crate::command::guests().join(format!("{name}.wasm"));
    let made = fs::metadata(&out).and_then(|file| file.modified()).ok();
    if made.is_some() && made > sources {
        return Ok(());
    }
    let arguments = [Path::new("build"), from, Path::new("--out"), &out];
    run_command(&mut program(&cli.to_string_lossy(), &arguments))
}

/// The folders of `examples`, sorted.
fn folders(examples: &Path) -> Result<Vec<String>, Failed> {
    let entries = fs::read_dir(examples).map_err(|error| format!("{}: {error}", examples.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    names.sort();
    Ok(names)
}

/// When the newest of the files, and of those below the folders, was written; what builds leave does not count.
fn newest(paths: &[PathBuf]) -> Option<SystemTime> {
    let mut newest = None;
    let mut left = paths.to_vec();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let inside = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
            left.extend(inside.filter(|path| !path.ends_with("build")));
        } else {
            newest = newest.max(fs::metadata(&path).and_then(|file| file.modified()).ok());
        }
    }
    newest
}

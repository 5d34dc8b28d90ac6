//! What must be there before anything is built: the wasm32 target and, for the guests in C, a compiler.

use crate::Failed;
use crate::command::{exists, is_ci, output, program, run, say};

/// The target of guests.
const TARGET: &str = "wasm32-unknown-unknown";

/// Compilers that build C guests, any one of them.
const C_COMPILERS: [&str; 3] = ["clang-19", "clang", "zig"];

/// Adds the target; on CI also installs a C compiler.
pub(crate) fn prepare() -> Result<(), Failed> {
    add_target()?;
    if is_ci() && !C_COMPILERS.iter().any(|name| exists(name)) {
        say("no C compiler for WebAssembly (clang or zig): installing clang-19 and lld-19 with apt-get");
        install(&["clang-19", "lld-19"])?;
    }
    Ok(())
}

/// Adds the wasm32 target to the toolchain where it is missing.
fn add_target() -> Result<(), Failed> {
    let installed = output(&mut program("rustup", &["target", "list", "--installed"]));
    if installed.is_some_and(|installed| installed.lines().any(|line| line.trim() == TARGET)) {
        return Ok(());
    }
    if !exists("rustup") {
        // a toolchain from elsewhere may have the target all the same
        let sysroot = output(&mut program("rustc", &["--print", "sysroot"])).unwrap_or_default();
        let library = std::path::Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET);
        return if library.is_dir() {
            Ok(())
        } else {
            Err(format!("the Rust target {TARGET} is missing and there is no rustup to add it; see https://rustup.rs"))
        };
    }
    run(&mut program("rustup", &["target", "add", TARGET]))
}

fn install(packages: &[&str]) -> Result<(), Failed> {
    let mut update = vec!["apt-get", "update"];
    let mut install = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    let is_root = output(&mut program("id", &["-u"])).is_some_and(|id| id.trim() == "0");
    if !is_root {
        update.insert(0, "sudo");
        install.insert(0, "sudo");
    }
    for words in [update, install] {
        if let Some((name, arguments)) = words.split_first() {
            run(program(name, arguments).env("DEBIAN_FRONTEND", "noninteractive"))?;
        }
    }
    Ok(())
}

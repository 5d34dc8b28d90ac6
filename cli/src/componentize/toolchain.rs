//! The languages' own compilers: source in, core module out.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::project::{BuildError, Language, read, write};

/// The header that C operators include. It is written into the project's `build/` for each build.
const C_HEADER: &str = include_str!("../../../sdk/c/millstream.h");

/// Oldest clang that is tried by its versioned name; older ones are not tested.
const CLANG_OLDEST: u32 = 14;

/// Newest clang that is tried by its versioned name.
const CLANG_NEWEST: u32 = 22;

/// For a build that is wanted at once: what has not changed is kept, and the component is not optimized as a whole. A profile of its
/// own, over what the project's own says: what it made is kept beside what a full build has made, and neither is made anew for the
/// other.
const QUICK: [&str; 10] = [
    "--profile",
    "millstream-quick",
    "--config",
    "profile.millstream-quick.inherits=\"release\"",
    "--config",
    "profile.millstream-quick.lto=\"off\"",
    "--config",
    "profile.millstream-quick.incremental=true",
    "--config",
    "profile.millstream-quick.codegen-units=16",
];

/// What a compiler made.
pub(super) struct Compiled {
    /// the core module
    pub(super) core: Vec<u8>,
    /// the name of the package, or of the folder
    pub(super) name: String,
}

/// Compiles the project. `quick`: sooner rather than small and fast, where the language's compiler has the choice.
pub(super) fn compile(language: Language, project: &Path, quick: bool, stream: bool) -> Result<Compiled, BuildError> {
    match language {
        Language::Rust => rust(project, quick, stream),
        Language::C => c(project, stream),
        Language::Go => go(project, stream),
    }
}

/// The C files of the folder, sorted.
pub(super) fn c_sources(project: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let failed = |source| BuildError::File { path: project.to_owned(), source };
    let mut sources = Vec::new();
    for entry in project.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn rust(project: &Path, quick: bool, stream: bool) -> Result<Compiled, BuildError> {
    require_rust_target(project)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--target", "wasm32-unknown-unknown", "--message-format", "json-render-diagnostics"]);
    cargo.args(if quick { &QUICK[..] } else { &["--release"] });
    let messages = run(cargo.current_dir(project), stream, &missing("cargo", "curl https://sh.rustup.rs -sSf | sh"))?;
    let manifest = project.join("Cargo.toml");
    let Some((path, name)) = messages.lines().filter_map(|line| module_of(line, &manifest)).next_back() else {
        return Err(BuildError::NoModule {
            command: "cargo build".to_owned(),
            hint: "expected `crate-type = [\"cdylib\"]` under `[lib]` in Cargo.toml".to_owned(),
        });
    };
    Ok(Compiled { core: read(&path)?, name })
}

/// The module and the package's name, if the line of cargo's report is about a module of this package.
fn module_of(line: &str, manifest: &Path) -> Option<(PathBuf, String)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if Path::new(message.get("manifest_path")?.as_str()?) != manifest {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    let module = files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm"))?;
    let name = message.get("target")?.get("name")?.as_str()?.replace('_', "-");
    Some((PathBuf::from(module), name))
}

/// Says so in one line where rustc would complain about a missing `core`.
fn require_rust_target(project: &Path) -> Result<(), BuildError> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", "wasm32-unknown-unknown"]).current_dir(project);
    let folder = run(&mut rustc, false, &missing("rustc", "curl https://sh.rustup.rs -sSf | sh"))?;
    if Path::new(folder.trim()).exists() {
        return Ok(());
    }
    Err(missing("the Rust target wasm32-unknown-unknown", "rustup target add wasm32-unknown-unknown")())
}

fn go(project: &Path, stream: bool) -> Result<Compiled, BuildError> {
    let core = project.join("build").join("core.wasm");
    let mut go = Command::new("go");
    go.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&core).arg(".");
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").current_dir(project);
    run(&mut go, stream, &missing("go (1.24 or newer)", "apt-get install golang, or see https://go.dev/dl"))?;
    let name = folder_name(project);
    Ok(Compiled { core: read(&core)?, name })
}

fn c(project: &Path, stream: bool) -> Result<Compiled, BuildError> {
    let build = project.join("build");
    let core = build.join("core.wasm");
    let include = build.join("include");
    write(&include.join("millstream.h"), C_HEADER.as_bytes())?;
    let compiler = c_compiler()
        .ok_or_else(missing("clang with wasm-ld", "apt-get install clang lld (or: pip install ziglang)"))?;
    let mut command = Command::new(&compiler.program);
    command.args(compiler.arguments);
    command.args([
        "-std=c11",
        "-O3",
        "-msimd128",
        "-mbulk-memory",
        "-ffreestanding",
        "-fno-builtin-malloc",
        "-nostdlib",
    ]);
    command.args(["-Wall", "-Wextra", "-I"]).arg(&include).args(c_sources(project)?);
    command.args(["-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=65536", "-o"]).arg(&core);
    run(command.current_dir(project), stream, &missing("clang", "apt-get install clang lld"))?;
    Ok(Compiled { core: read(&core)?, name: folder_name(project) })
}

/// A C compiler that can make wasm32.
struct CCompiler {
    program: OsString,
    arguments: &'static [&'static str],
}

/// clang under its plain and versioned names, then zig's.
fn c_compiler() -> Option<CCompiler> {
    const CLANG: &[&str] = &["--target=wasm32-unknown-unknown"];
    let plain = ("clang".to_owned(), "wasm-ld".to_owned());
    let versioned = (CLANG_OLDEST..=CLANG_NEWEST).rev().map(|v| (format!("clang-{v}"), format!("wasm-ld-{v}")));
    for (clang, linker) in std::iter::once(plain).chain(versioned) {
        if answers(&clang, &["--version"]) && answers(&linker, &["--version"]) {
            return Some(CCompiler { program: clang.into(), arguments: CLANG });
        }
    }
    if answers("zig", &["version"]) {
        return Some(CCompiler { program: "zig".into(), arguments: &["cc", "-target", "wasm32-freestanding"] });
    }
    if answers("python3", &["-m", "ziglang", "version"]) {
        let arguments = &["-m", "ziglang", "cc", "-target", "wasm32-freestanding"];
        return Some(CCompiler { program: "python3".into(), arguments });
    }
    None
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn folder_name(project: &Path) -> String {
    project.file_name().map_or_else(|| "operator".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn missing(tool: &str, install: &str) -> impl Fn() -> BuildError {
    let (tool, install) = (tool.to_owned(), install.to_owned());
    move || BuildError::MissingTool { tool: tool.clone(), install: install.clone() }
}

/// Runs a compiler and answers its standard output. Its standard error is shown as it comes, or kept for the error.
fn run(command: &mut Command, stream: bool, missing: &dyn Fn() -> BuildError) -> Result<String, BuildError> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let shown =
        command.get_args().take(2).fold(shown, |line, argument| format!("{line} {}", argument.to_string_lossy()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if stream { Stdio::inherit() } else { Stdio::piped() });
    let output = match command.spawn().and_then(std::process::Child::wait_with_output) {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(source) => return Err(BuildError::File { path: PathBuf::from(shown), source }),
    };
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Compiler { command: shown, output });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! From a folder with an operator's source to its component.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use millstream::clock::Stopwatch;
use toml::de::DeTable;

use super::toolchain::{self, Compiled};
use super::{ComponentizeError, Kind, UnknownKind, componentize};

/// The languages that `build` knows a compiler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// cargo, wasm32-unknown-unknown
    Rust,
    /// clang or zig cc, freestanding
    C,
    /// go, wasip1
    Go,
}

impl Language {
    /// As `operator.toml` and `--lang` write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::C => "c",
            Language::Go => "go",
        }
    }
}

impl FromStr for Language {
    type Err = BuildError;

    fn from_str(text: &str) -> Result<Self, BuildError> {
        let known = [Language::Rust, Language::C, Language::Go];
        let found = known.into_iter().find(|language| language.name() == text);
        found.ok_or_else(|| BuildError::Language { given: text.to_owned() })
    }
}

/// How to build.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildOptions {
    /// Where the component goes: a file that ends in `.wasm`, or a folder. `build/` in the project by default.
    pub(crate) out: Option<PathBuf>,
    /// the kind or world, where neither `operator.toml` nor the module says it
    pub(crate) world: Option<String>,
    /// the compiler's messages go to this process's standard error while it works, instead of into the error alone
    pub(crate) stream: bool,
    /// sooner rather than small and fast: for `dev`
    pub(crate) quick: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub(crate) struct BuildReport {
    /// the component
    pub(crate) path: PathBuf,
    /// its size
    pub(crate) bytes: u64,
    /// what it was built from; none for a finished core module
    pub(crate) language: Option<Language>,
    /// time of the compiler
    pub(crate) compile_time: Duration,
    /// time of everything
    pub(crate) build_time: Duration,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// nothing there to build
    #[error(
        "{} is not a project: expected Cargo.toml, go.mod or *.c in it, or a .wasm file; \
         `millstream new --lang rust my-operator` makes one", path.display()
    )]
    NoProject {
        /// where it was looked for
        path: PathBuf,
    },
    /// `operator.toml` cannot be read
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// the file
        path: PathBuf,
        /// what is wrong, with its place
        reason: String,
    },
    /// a language that there is no compiler for
    #[error(
        "no language is called \"{given}\"; there are: rust, c, go (others: build the core module yourself and pass it)"
    )]
    Language {
        /// what was written
        given: String,
    },
    /// a compiler is missing
    #[error("{tool} is not installed; install it with: {install}")]
    MissingTool {
        /// what is missing
        tool: String,
        /// the one command
        install: String,
    },
    /// the compiler refused the source
    #[error("{command} failed{}", indented(output))]
    Compiler {
        /// the command
        command: String,
        /// what it said, unless it was streamed
        output: String,
    },
    /// the compiler succeeded, but left nothing that can be used
    #[error("{command} made no WebAssembly module; {hint}")]
    NoModule {
        /// the command
        command: String,
        /// what to look for
        hint: String,
    },
    /// the module cannot become a component
    #[error(transparent)]
    Component(#[from] ComponentizeError),
    /// a file cannot be read or written
    #[error("{}: {source}", path.display())]
    File {
        /// the file
        path: PathBuf,
        /// why
        source: io::Error,
    },
}

impl From<UnknownKind> for BuildError {
    fn from(error: UnknownKind) -> Self {
        BuildError::Component(error.into())
    }
}

fn indented(output: &str) -> String {
    if output.trim().is_empty() {
        return String::new();
    }
    format!(":\n{}", output.trim_end())
}

/// `operator.toml`: what the folder does not tell by itself. Every key may be left out.
#[derive(Debug, Default, PartialEq)]
struct Manifest {
    /// the component's file name, without `.wasm`; the folder's name by default
    name: Option<String>,
    /// map, filter, flat_map, aggregate, process or window_process; by default what the module exports
    kind: Option<String>,
    /// rust, c or go; by default what the folder holds
    language: Option<String>,
}

/// Builds the component of a project folder, or of a finished core module.
pub(crate) fn build(project: &Path, options: &BuildOptions) -> Result<BuildReport, BuildError> {
    let watch = Stopwatch::start();
    if project.is_file() {
        let core = read(project)?;
        let name =
            project.file_stem().map_or_else(|| "operator".to_owned(), |name| name.to_string_lossy().into_owned());
        let folder = project.parent().unwrap_or(Path::new(".")).join("build");
        return finish(&core, &name, &folder, options, (None, Duration::ZERO), &watch);
    }
    let project = &project.canonicalize().map_err(|_| BuildError::NoProject { path: project.to_owned() })?;
    let manifest = manifest(project)?;
    let language = match &manifest.language {
        Some(language) => language.parse()?,
        None => detect(project)?,
    };
    let compile = Stopwatch::start();
    let Compiled { core, name } = toolchain::compile(language, project, options.quick, options.stream)?;
    let compile_time = compile.elapsed();
    let name = manifest.name.unwrap_or(name);
    let options = BuildOptions { world: options.world.clone().or(manifest.kind), ..options.clone() };
    finish(&core, &name, &project.join("build"), &options, (Some(language), compile_time), &watch)
}

/// Componentizes and writes.
fn finish(
    core: &[u8],
    name: &str,
    folder: &Path,
    options: &BuildOptions,
    (language, compile_time): (Option<Language>, Duration),
    watch: &Stopwatch,
) -> Result<BuildReport, BuildError> {
    let component = componentize(core, options.world.as_deref())?;
    let path = match &options.out {
        Some(out) if out.extension().is_some_and(|extension| extension == "wasm") => out.clone(),
        Some(out) => out.join(format!("{name}.wasm")),
        None => folder.join(format!("{name}.wasm")),
    };
    write(&path, &component)?;
    let bytes = u64::try_from(component.len()).unwrap_or(u64::MAX);
    Ok(BuildReport { path, bytes, language, compile_time, build_time: watch.elapsed() })
}

fn manifest(project: &Path) -> Result<Manifest, BuildError> {
    let path = project.join("operator.toml");
    if !path.exists() {
        return Ok(Manifest::default());
    }
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    parse(&text).map_err(|reason| BuildError::Manifest { path, reason })
}

/// Reads `operator.toml`; the error names the place or the key.
fn parse(text: &str) -> Result<Manifest, String> {
    let table = DeTable::parse(text).map_err(|error| error.to_string())?;
    let mut manifest = Manifest::default();
    for (key, value) in table.get_ref() {
        let key = key.get_ref().as_ref();
        let text = value.get_ref().as_str().ok_or_else(|| format!("{key}: expected a string"))?.to_owned();
        match key {
            "name" => manifest.name = Some(text),
            "kind" => {
                Kind::from_str(&text).map_err(|error| format!("kind: {error}"))?;
                manifest.kind = Some(text);
            }
            "language" => manifest.language = Some(text),
            other => return Err(format!("no key is called \"{other}\"; there are: name, kind, language")),
        }
    }
    Ok(manifest)
}

/// The language of what the folder holds.
fn detect(project: &Path) -> Result<Language, BuildError> {
    if project.join("Cargo.toml").exists() {
        return Ok(Language::Rust);
    }
    if project.join("go.mod").exists() {
        return Ok(Language::Go);
    }
    if toolchain::c_sources(project)?.is_empty() {
        return Err(BuildError::NoProject { path: project.to_owned() });
    }
    Ok(Language::C)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::File { path: path.to_owned(), source })
}

/// Writes a file whole or not at all: a `dev` that watches the folder must not see half a component.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let failed = |source| BuildError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let part = path.with_extension("part");
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::{Manifest, parse};

    #[test]
    fn the_manifest_names_what_it_does_not_know() {
        let manifest = parse("name = \"a\"\nkind = \"flat-map\"").unwrap();
        assert_eq!(manifest, Manifest { name: Some("a".into()), kind: Some("flat-map".into()), language: None });
        assert_eq!(parse("nmae = \"a\"").unwrap_err(), "no key is called \"nmae\"; there are: name, kind, language");
        assert!(parse("kind = \"reduce\"").unwrap_err().starts_with("kind: no operator is called \"reduce\""));
        assert_eq!(parse("name = 1").unwrap_err(), "name: expected a string");
        assert!(parse("name = ").unwrap_err().contains("line 1"));
    }
}

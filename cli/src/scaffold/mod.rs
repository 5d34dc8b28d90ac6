//! `millstream new`: a project that builds, passes its tests and runs at once.
//!
//! The files are templates beside this module; `{{name}}` and the like are replaced. Nothing that exists is overwritten.

mod templates;

#[cfg(test)]
mod tests;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::componentize::{Kind, Language};

/// Why a project cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// the name cannot be that of a package
    #[error(
        "\"{name}\" cannot be the name of an operator; expected a letter, then letters, digits, - and _ (ASCII), at most 64"
    )]
    Name {
        /// what was given
        name: String,
    },
    /// no such language
    #[error("no template for \"{given}\"; there are: rust, c, go")]
    Language {
        /// what was given
        given: String,
    },
    /// no such kind
    #[error(transparent)]
    Kind(#[from] crate::componentize::UnknownKind),
    /// the folder has files already
    #[error("{} is not empty; name another folder with --dir", path.display())]
    NotEmpty {
        /// the folder
        path: PathBuf,
    },
    /// the folder given as the SDK is not one
    #[error("{} is not the Rust SDK: expected a Cargo.toml in it", path.display())]
    Sdk {
        /// what was given
        path: PathBuf,
    },
    /// a file cannot be written
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// the file
        path: PathBuf,
        /// why
        source: io::Error,
    },
}

/// Makes the project `name` in `dir`, and answers the files that it wrote, in order.
///
/// `lang` is rust, c or go, `kind` map, filter, flat-map, aggregate, process, window-process or partition. A project in Rust
/// depends on the SDK of the source checkout that this program was built in, if it is still there, else on the published one.
pub(crate) fn create(dir: &Path, name: &str, lang: &str, kind: &str) -> Result<Vec<PathBuf>, CreateError> {
    create_with(dir, name, lang, kind, None)
}

/// As [`create`], with the folder of the Rust SDK.
pub(crate) fn create_with(
    dir: &Path,
    name: &str,
    lang: &str,
    kind: &str,
    sdk: Option<&Path>,
) -> Result<Vec<PathBuf>, CreateError> {
    check_name(name)?;
    let lang: Language = lang.parse().map_err(|_| CreateError::Language { given: lang.to_owned() })?;
    let kind: Kind = kind.parse()?;
    let sdk = match sdk {
        Some(path) if path.join("Cargo.toml").is_file() => Some(absolute(path)),
        Some(path) => return Err(CreateError::Sdk { path: path.to_owned() }),
        None => find_sdk(),
    };
    let files = templates::files(lang, kind);
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CreateError::NotEmpty { path: dir.to_owned() });
    }
    let words = words(name, lang, kind, sdk.as_deref());
    let mut written = Vec::new();
    for (path, template) in files {
        let path = dir.join(path);
        let text = words.iter().fold(template.to_owned(), |text, (word, value)| text.replace(word, value));
        write(&path, &text)?;
        written.push(path);
    }
    Ok(written)
}

/// A name that cargo, go and pipelines all take.
fn check_name(name: &str) -> Result<(), CreateError> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let reserved = ["test", "std", "core", "alloc", "build", "deps", "examples", "incremental"].contains(&name);
    if starts && rest && !reserved && name.len() <= 64 {
        return Ok(());
    }
    Err(CreateError::Name { name: name.to_owned() })
}

/// What stands for the words in double braces.
fn words(name: &str, lang: Language, kind: Kind, sdk: Option<&Path>) -> Vec<(&'static str, String)> {
    let sdk = match sdk {
        Some(path) => format!("{{ path = {:?} }}", path.display().to_string()),
        None => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    };
    let test = match lang {
        Language::Rust => "    cargo test                        # the operator's own tests, natively\n",
        Language::C | Language::Go => "",
    };
    vec![
        ("{{name}}", name.to_owned()),
        ("{{function}}", function(name)),
        ("{{type}}", type_name(name)),
        ("{{kind}}", kind.name().to_owned()),
        ("{{lang}}", lang.name().to_owned()),
        ("{{sdk}}", sdk),
        ("{{test}}", test.to_owned()),
    ]
}

/// The name as that of a function. It gets a suffix where it would be a keyword or the name of an item in the template.
fn function(name: &str) -> String {
    const TAKEN: [&str; 57] = [
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn",
        "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self",
        "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while", "abstract", "become",
        "box", "do", "final", "macro", "override", "priv", "try", "typeof", "unsized", "virtual", "yield", "tests",
        "testing", "str", "f64", "i64", "bool",
    ];
    let name = name.replace('-', "_").to_ascii_lowercase();
    if TAKEN.contains(&name.as_str()) { format!("{name}_row") } else { name }
}

/// The name as that of a type, which is none of the template's own.
fn type_name(name: &str) -> String {
    let mut camel = String::new();
    for part in name.split(['-', '_']) {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    let taken = [
        "Sale",
        "Seen",
        "Mean",
        "Row",
        "Aggregate",
        "Self",
        "Option",
        "Default",
        "Clone",
        "Debug",
        "PartialEq",
        "Product",
        "Open",
        "Burst",
        "Process",
        "Context",
        "Timer",
        "Processing",
        "Median",
        "WindowRows",
    ];
    if taken.contains(&camel.as_str()) { format!("{camel}Operator") } else { camel }
}

/// `sdk/` of the checkout that this program lies in (`target/release/millstream`), or that the current folder is in.
fn find_sdk() -> Option<PathBuf> {
    let starts = [env::current_exe().ok(), env::current_dir().ok()];
    let folders = starts.iter().flatten().flat_map(|start| start.ancestors());
    folders.map(|folder| folder.join("sdk")).find(|sdk| sdk.join("macros").join("Cargo.toml").is_file())
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn write(path: &Path, text: &str) -> Result<(), CreateError> {
    let failed = |source| CreateError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

//! Core modules to components, and projects to core modules: what `millstream build` does.
//!
//! All of it happens in this process. The contract is fixed, so it is built in, and an author needs nothing but the
//! language's own compiler: no other WebAssembly tools. Nothing here runs guest code.

mod contract;
mod project;
mod toolchain;

#[cfg(test)]
mod tests;

pub(crate) use contract::{Kind, UnknownKind};
pub(crate) use project::{BuildError, BuildOptions, BuildReport, Language, build};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use contract::{Contract, joined_world};

/// The adapter that stands in for WASI preview1, as text.
const PREVIEW1: &str = include_str!("preview1.wat");

/// Why a module cannot become a component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComponentizeError {
    /// the bytes are no WebAssembly at all
    #[error("not a WebAssembly binary: expected the bytes 00 61 73 6d at its start, got {start}")]
    NotWasm {
        /// the first bytes, in hex
        start: String,
    },
    /// the world that was asked for is not in the contract
    #[error(transparent)]
    World(#[from] UnknownKind),
    /// no world was given and the module does not tell
    #[error(
        "the module does not say which kind of operator it is: it has no component-type section and exports the functions \
         of no world, or of several; say which with --world (map, filter, flat_map, aggregate, process, window_process, partition)"
    )]
    NoWorld,
    /// the module does not fit the contract
    #[error("the module does not fit the world {world}: {reason}")]
    Unfit {
        /// the world, as far as known
        world: String,
        /// what does not fit
        reason: String,
    },
    /// what is built into the CLI is broken
    #[error("internal error: the built-in contract cannot be used: {reason}; please report it")]
    BuiltIn {
        /// what is wrong
        reason: String,
    },
}

/// Makes a component of a core module.
///
/// A module that carries its component type (Rust's does) is taken as it is. Others get that of `world`, which is a
/// kind (`map`) or the name of a world (`map-operator`), or, without, the one whose functions they export. Imports of
/// WASI preview1 are satisfied inside the component. What is a component already comes back unchanged.
pub(crate) fn componentize(core: &[u8], world: Option<&str>) -> Result<Vec<u8>, ComponentizeError> {
    let asked: Option<Kind> = world.map(str::parse).transpose()?;
    match core.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {}
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => return Ok(core.to_vec()),
        _ => return Err(ComponentizeError::NotWasm { start: hex(core) }),
    }
    let contract = Contract::parse().map_err(|reason| ComponentizeError::BuiltIn { reason })?;
    let mut module = core.to_vec();
    let kind = asked.or_else(|| Kind::of_core_module(core));
    let unfit = |reason: String| ComponentizeError::Unfit {
        world: kind.map_or("that it names", Kind::world).to_owned(),
        reason,
    };
    if !has_component_type(core).map_err(unfit)? {
        let kind = kind.ok_or(ComponentizeError::NoWorld)?;
        embed(&contract, kind.world(), &mut module)?;
        if let Some(world) = joined_world(core) {
            embed(&contract, world, &mut module)?;
        }
    }
    let adapter = preview1(&contract)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.adapter("wasi_snapshot_preview1", &adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| unfit(format!("{error:#}")))
}

/// Whether the module says itself which world it is of.
fn has_component_type(core: &[u8]) -> Result<bool, String> {
    match wit_component::metadata::decode(core) {
        Ok((stripped, _)) => Ok(stripped.is_some()),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// Appends the component type of `world`.
fn embed(contract: &Contract, world: &str, module: &mut Vec<u8>) -> Result<(), ComponentizeError> {
    let id = contract.world(world).map_err(|reason| ComponentizeError::BuiltIn { reason })?;
    embed_component_metadata(module, &contract.resolve, id, StringEncoding::UTF8)
        .map_err(|error| ComponentizeError::BuiltIn { reason: format!("{error:#}") })
}

/// The preview1 adapter as a module that says what it imports.
fn preview1(contract: &Contract) -> Result<Vec<u8>, ComponentizeError> {
    let mut adapter =
        wat::parse_str(PREVIEW1).map_err(|error| ComponentizeError::BuiltIn { reason: error.to_string() })?;
    embed(contract, "preview1-adapter", &mut adapter)?;
    Ok(adapter)
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".to_owned();
    }
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

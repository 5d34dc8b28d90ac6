//! The contract as the CLI carries it: the text of `wit/`, and which world an operator belongs to.

use std::fmt;
use std::str::FromStr;

use wit_parser::{PackageId, Resolve, SourceMap, WorldId};

/// `wit/`, file by file.
const FILES: [(&str, &str); 11] = [
    ("aggregator.wit", include_str!("../../../wit/aggregator.wit")),
    ("filter.wit", include_str!("../../../wit/filter.wit")),
    ("flat-mapper.wit", include_str!("../../../wit/flat-mapper.wit")),
    ("host.wit", include_str!("../../../wit/host.wit")),
    ("mapper.wit", include_str!("../../../wit/mapper.wit")),
    ("migrator.wit", include_str!("../../../wit/migrator.wit")),
    ("partitioner.wit", include_str!("../../../wit/partitioner.wit")),
    ("processor.wit", include_str!("../../../wit/processor.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("window-processor.wit", include_str!("../../../wit/window-processor.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

/// The world that is joined to that of an operator which takes over state of other versions.
const MIGRATION_WORLD: &str = "state-migration";

/// The start of what such an operator exports.
const MIGRATION_EXPORTS: &[u8] = b"millstream:operator/migrator@";

/// What the preview1 adapter imports.
const ADAPTER_WORLD: &str = "package millstream:operator@0.1.0;\n\nworld preview1-adapter {\n    import host;\n}\n";

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// one row out for each row in
    Map,
    /// keeps or drops rows
    Filter,
    /// any number of rows out for each row in
    FlatMap,
    /// folds rows into accumulators
    Aggregate,
    /// handles rows key by key, with state and timers
    Process,
    /// makes rows of all rows of a window
    WindowProcess,
    /// decides which task gets a row
    Partition,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Map, Kind::Filter, Kind::FlatMap, Kind::Aggregate, Kind::Process, Kind::WindowProcess, Kind::Partition];

    /// As pipelines and `operator.toml` write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Map => "map",
            Kind::Filter => "filter",
            Kind::FlatMap => "flat_map",
            Kind::Aggregate => "aggregate",
            Kind::Process => "process",
            Kind::WindowProcess => "window_process",
            Kind::Partition => "partition",
        }
    }

    /// Its world in the contract.
    pub(crate) fn world(self) -> &'static str {
        match self {
            Kind::Map => "map-operator",
            Kind::Filter => "filter-operator",
            Kind::FlatMap => "flat-map-operator",
            Kind::Aggregate => "aggregate-operator",
            Kind::Process => "process-operator",
            Kind::WindowProcess => "window-process-operator",
            Kind::Partition => "partition-operator",
        }
    }

    /// The start of what a core module of its world exports.
    fn exports(self) -> &'static [u8] {
        match self {
            Kind::Map => b"millstream:operator/mapper@",
            Kind::Filter => b"millstream:operator/filter@",
            Kind::FlatMap => b"millstream:operator/flat-mapper@",
            Kind::Aggregate => b"millstream:operator/aggregator@",
            Kind::Process => b"millstream:operator/processor@",
            Kind::WindowProcess => b"millstream:operator/window-processor@",
            Kind::Partition => b"millstream:operator/partitioner@",
        }
    }

    /// The kind that a core module's exports say it is; none where they say nothing, or more than one.
    pub(super) fn of_core_module(core: &[u8]) -> Option<Kind> {
        let mut found = Kind::ALL.into_iter().filter(|kind| names(core, kind.exports()));
        match (found.next(), found.next()) {
            (Some(kind), None) => Some(kind),
            _ => None,
        }
    }
}

/// The world that a core module's exports ask for beside that of its kind, if they do.
pub(super) fn joined_world(core: &[u8]) -> Option<&'static str> {
    names(core, MIGRATION_EXPORTS).then_some(MIGRATION_WORLD)
}

/// Whether the module has these bytes, as it has the names of its exports.
fn names(core: &[u8], wanted: &[u8]) -> bool {
    core.windows(wanted.len()).any(|bytes| bytes == wanted)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Takes the kind (`map`, `flat_map` or `flat-map`) and the world's name (`map-operator`).
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let wanted = text.strip_suffix("-operator").unwrap_or(text).replace('-', "_");
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == wanted);
        kind.ok_or_else(|| UnknownKind { given: text.to_owned() })
    }
}

/// Text that names no kind of operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no operator is called \"{given}\"; there are: map, filter, flat_map, aggregate, process, window_process, partition"
)]
pub(crate) struct UnknownKind {
    /// what was written
    pub(crate) given: String,
}

/// The contract, resolved.
pub(super) struct Contract {
    pub(super) resolve: Resolve,
    package: PackageId,
}

impl Contract {
    /// Parses the text that was built in. It fails only if the CLI was built from a broken `wit/`, which a test would have said.
    pub(super) fn parse() -> Result<Self, String> {
        let mut sources = SourceMap::default();
        for (name, text) in FILES {
            sources.push_str(name, text);
        }
        sources.push_str("preview1-adapter.wit", ADAPTER_WORLD);
        let group = sources.parse().map_err(|(_, error)| error.to_string())?;
        let mut resolve = Resolve::default();
        let package = resolve.push_group(group).map_err(|error| error.to_string())?;
        Ok(Contract { resolve, package })
    }

    /// The world `name`.
    pub(super) fn world(&self, name: &str) -> Result<WorldId, String> {
        self.resolve.select_world(&[self.package], Some(name)).map_err(|error| format!("{error:#}"))
    }
}

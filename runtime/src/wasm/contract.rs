//! What a component must export and may import: the contract of `wit/`, checked before anything runs.

use std::fmt;

use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex};

use super::abi::{
    AccumulateParams, BatchParams, BatchReturn, DescribeReturn, ExpansionReturn, MaskReturn, MigrateParams, PairParams,
    RouteParams, RouteReturn, SourcesReturn, WindowsParams,
};
use super::error::LoadError;
use super::process_abi::{DescribeProcessReturn, OutcomeReturn, ProcessParams};

/// The package of the contract. Of a `0.x` version only the same `x` is compatible.
pub const PACKAGE: &str = "millstream:operator";
/// Its version.
pub const VERSION: &str = "0.1.0";

const ALLOWED: &str = "allowed are `millstream:operator/host`, `millstream:operator/config` and, \
                       without any effect, WASI 0.2";

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorKind {
    /// one row out for each row in
    Mapper,
    /// keeps or drops rows
    Filter,
    /// any number of rows out for each row in
    FlatMapper,
    /// folds rows into accumulators
    Aggregator,
    /// handles rows key by key, with state and timers
    Processor,
    /// makes rows of all rows of a window
    WindowProcessor,
    /// decides which task gets a row
    Partitioner,
}

impl OperatorKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Mapper,
        Self::Filter,
        Self::FlatMapper,
        Self::Aggregator,
        Self::Processor,
        Self::WindowProcessor,
        Self::Partitioner,
    ];

    /// The name of the kind's interface in the contract.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Mapper => "mapper",
            Self::Filter => "filter",
            Self::FlatMapper => "flat-mapper",
            Self::Aggregator => "aggregator",
            Self::Processor => "processor",
            Self::WindowProcessor => "window-processor",
            Self::Partitioner => "partitioner",
        }
    }

    /// What the interface exports, `describe` first.
    pub(super) const fn functions(self) -> &'static [Function] {
        match self {
            Self::Mapper => &[Function::Describe, Function::Transform],
            Self::Filter => &[Function::Describe, Function::Select],
            Self::FlatMapper => &[Function::Describe, Function::Expand],
            Self::Aggregator => {
                &[Function::Describe, Function::Create, Function::Accumulate, Function::Merge, Function::Finish]
            }
            Self::Processor => &[Function::DescribeProcess, Function::Process],
            Self::WindowProcessor => &[Function::Describe, Function::ProcessWindows],
            Self::Partitioner => &[Function::Describe, Function::Route],
        }
    }
}

impl fmt::Display for OperatorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

/// A function that the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Describe,
    Transform,
    Select,
    Expand,
    Create,
    Accumulate,
    Merge,
    Finish,
    DescribeProcess,
    Process,
    ProcessWindows,
    Route,
    Sources,
    Migrate,
}

/// The interface that an operator may export beside its own.
const MIGRATOR: &str = "migrator";

impl Function {
    /// What `migrator` exports.
    const OF_MIGRATOR: &'static [Self] = &[Self::Sources, Self::Migrate];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Describe | Self::DescribeProcess => "describe",
            Self::Transform => "transform",
            Self::Select => "select",
            Self::Expand => "expand",
            Self::Create => "create",
            Self::Accumulate => "accumulate",
            Self::Merge => "merge",
            Self::Finish => "finish",
            Self::Process | Self::ProcessWindows => "process",
            Self::Route => "route",
            Self::Sources => "sources",
            Self::Migrate => "migrate",
        }
    }

    /// The function's type as `wit/` writes it.
    const fn wit(self) -> &'static str {
        match self {
            Self::Describe => "func() -> result<signature, string>",
            Self::Transform => "func(input: batch) -> result<batch, failure>",
            Self::Select => "func(input: batch) -> result<list<u8>, failure>",
            Self::Expand => "func(input: batch) -> result<expansion, failure>",
            Self::Create => "func() -> result<batch, failure>",
            Self::Accumulate => "func(groups: list<u32>, accumulators: batch, input: batch) -> result<batch, failure>",
            Self::Merge => "func(left: batch, right: batch) -> result<batch, failure>",
            Self::Finish => "func(accumulators: batch) -> result<batch, failure>",
            Self::DescribeProcess => "func() -> result<process-signature, string>",
            Self::Process => "func(call: call) -> result<outcome, failure>",
            Self::ProcessWindows => {
                "func(starts: list<s64>, ends: list<s64>, groups: list<u32>, times: list<s64>, input: batch) \
                 -> result<window-results, failure>"
            }
            Self::Route => "func(input: batch, targets: u32) -> result<list<u32>, failure>",
            Self::Sources => "func() -> result<list<state-schema>, string>",
            Self::Migrate => "func(from-version: u32, state: batch) -> result<batch, failure>",
        }
    }

    /// Compares a function's type with what the host will call it with.
    fn check(self, function: &types::ComponentFunc, component: &types::Component) -> wasmtime::Result<()> {
        let types = component.instance_type();
        match self {
            Self::Describe => function.typecheck::<(), DescribeReturn>(&types),
            Self::Transform | Self::Finish => function.typecheck::<BatchParams<'_>, BatchReturn>(&types),
            Self::Select => function.typecheck::<BatchParams<'_>, MaskReturn>(&types),
            Self::Expand => function.typecheck::<BatchParams<'_>, ExpansionReturn>(&types),
            Self::Create => function.typecheck::<(), BatchReturn>(&types),
            Self::Accumulate => function.typecheck::<AccumulateParams<'_>, BatchReturn>(&types),
            Self::Merge => function.typecheck::<PairParams<'_>, BatchReturn>(&types),
            Self::DescribeProcess => function.typecheck::<(), DescribeProcessReturn>(&types),
            Self::Process => function.typecheck::<ProcessParams<'_>, OutcomeReturn>(&types),
            Self::ProcessWindows => function.typecheck::<WindowsParams<'_>, ExpansionReturn>(&types),
            Self::Route => function.typecheck::<RouteParams<'_>, RouteReturn>(&types),
            Self::Sources => function.typecheck::<(), SourcesReturn>(&types),
            Self::Migrate => function.typecheck::<MigrateParams<'_>, BatchReturn>(&types),
        }
    }
}

/// An operator that a component exports, with its functions in the order of [`OperatorKind::functions`].
#[derive(Debug)]
pub(super) struct Export {
    pub(super) kind: OperatorKind,
    pub(super) functions: Vec<ComponentExportIndex>,
}

/// All that a component exports and the host calls.
#[derive(Debug)]
pub(super) struct Exports {
    pub(super) operators: Vec<Export>,
    /// the functions of `migrator`, if it is there
    pub(super) migrator: Option<Vec<ComponentExportIndex>>,
}

/// The name of an interface, taken apart: `package/interface@version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterfaceName<'a> {
    pub(super) package: &'a str,
    pub(super) interface: &'a str,
    pub(super) version: &'a str,
}

impl<'a> InterfaceName<'a> {
    /// `None` for names of another form. A missing version is empty.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Self { package, interface, version })
    }

    fn is_of_this_version(&self) -> bool {
        let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
        minor(self.version).is_some_and(|found| minor(VERSION) == Some(found))
    }
}

/// Refuses imports that the sandbox does not answer.
pub(super) fn check_import(component: &str, import: &str) -> Result<(), LoadError> {
    let forbidden =
        || LoadError::ForbiddenImport { name: component.to_owned(), import: import.to_owned(), allowed: ALLOWED };
    let name = InterfaceName::parse(import).ok_or_else(forbidden)?;
    if name.package.starts_with("wasi:") && name.version.starts_with("0.2.") {
        return Ok(());
    }
    if name.package != PACKAGE || !matches!(name.interface, "types" | "host" | "config") {
        return Err(forbidden());
    }
    if name.is_of_this_version() { Ok(()) } else { Err(version_mismatch(component, import, name.interface)) }
}

fn version_mismatch(component: &str, found: &str, interface: &str) -> LoadError {
    LoadError::Version {
        name: component.to_owned(),
        found: found.to_owned(),
        expected: format!("{PACKAGE}/{interface}@{VERSION}"),
    }
}

/// Finds the operators that a component exports and checks the type of every function that will be called.
/// What else it exports is ignored.
pub(super) fn find_exports(name: &str, component: &Component) -> Result<Exports, LoadError> {
    let engine = component.engine();
    let component_type = component.component_type();
    let mut exports = Vec::new();
    let (mut found, mut migrator) = (Vec::new(), None);
    for (export, item) in component_type.exports(engine) {
        found.push(export.to_owned());
        let Some(parsed) = InterfaceName::parse(export).filter(|parsed| parsed.package == PACKAGE) else { continue };
        let kind = OperatorKind::ALL.into_iter().find(|kind| kind.interface() == parsed.interface);
        if kind.is_none() && parsed.interface != MIGRATOR {
            continue;
        }
        if !parsed.is_of_this_version() {
            return Err(version_mismatch(name, export, parsed.interface));
        }
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let wanted = kind.map_or(Function::OF_MIGRATOR, OperatorKind::functions);
        let functions = find_functions(name, component, &component_type, export, &instance, wanted)?;
        match kind {
            Some(kind) => exports.push(Export { kind, functions }),
            None => migrator = Some(functions),
        }
    }
    if exports.is_empty() {
        let known = OperatorKind::ALL.map(|kind| format!("{PACKAGE}/{}@{VERSION}", kind.interface()));
        return Err(LoadError::NoOperator { name: name.to_owned(), found, known: known.into() });
    }
    exports.sort_by_key(|export| export.kind);
    Ok(Exports { operators: exports, migrator })
}

fn find_functions(
    name: &str,
    component: &Component,
    component_type: &types::Component,
    interface: &str,
    instance: &types::ComponentInstance,
    wanted: &[Function],
) -> Result<Vec<ComponentExportIndex>, LoadError> {
    let engine: &Engine = component.engine();
    let parent = component.get_export_index(None, interface);
    let mut functions = Vec::new();
    for function in wanted {
        let index = component.get_export_index(parent.as_ref(), function.name());
        let item = instance.get_export(engine, function.name()).map(|item| item.ty);
        let (Some(index), Some(ComponentItem::ComponentFunc(function_type))) = (index, item) else {
            return Err(LoadError::MissingFunction {
                name: name.to_owned(),
                interface: interface.to_owned(),
                function: function.name(),
                expected: function.wit(),
            });
        };
        function.check(&function_type, component_type).map_err(|error| LoadError::FunctionType {
            name: name.to_owned(),
            interface: interface.to_owned(),
            function: function.name().to_owned(),
            expected: function.wit(),
            reason: format!("{error:#}"),
        })?;
        functions.push(index);
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_host_interfaces_and_wasi_may_be_imported() {
        for allowed in ["millstream:operator/host@0.1.0", "millstream:operator/types@0.1.7", "wasi:io/poll@0.2.6"] {
            assert!(check_import("c", allowed).is_ok(), "{allowed}");
        }
        for forbidden in ["env", "wasi:io/poll@0.3.0", "millstream:operator/mapper@0.1.0", "other:x/y@0.2.0"] {
            assert!(matches!(check_import("c", forbidden), Err(LoadError::ForbiddenImport { .. })), "{forbidden}");
        }
        for other in ["millstream:operator/host@0.2.0", "millstream:operator/host", "millstream:operator/host@1.1.0"] {
            assert!(matches!(check_import("c", other), Err(LoadError::Version { .. })), "{other}");
        }
    }
}

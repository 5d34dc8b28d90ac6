//! Which files a project is made of.

use crate::componentize::{Kind, Language};

/// A path in the project and the template of what is written there.
type File = (&'static str, &'static str);

const INPUT: File = ("input.jsonl", include_str!("templates/pipelines/input.jsonl"));
const README: File = ("README.md", include_str!("templates/README.md.tmpl"));
const STEP: File = ("pipeline.toml", include_str!("templates/pipelines/step.toml.tmpl"));
const AGGREGATE: File = ("pipeline.toml", include_str!("templates/pipelines/aggregate.toml.tmpl"));
const PROCESS: File = ("pipeline.toml", include_str!("templates/pipelines/process.toml.tmpl"));
const WINDOW_PROCESS: File = ("pipeline.toml", include_str!("templates/pipelines/window_process.toml.tmpl"));
const PARTITION: File = ("pipeline.toml", include_str!("templates/pipelines/partition.toml.tmpl"));
const IGNORE: File = (".gitignore", "/target\n/build\n");

/// A script that drives the pipeline, for each kind of operator: what comes out is the same in all languages.
const SCRIPTS: [(Kind, &str); 7] = [
    (Kind::Map, include_str!("templates/pipelines/test-map.jsonl")),
    (Kind::Filter, include_str!("templates/pipelines/test-filter.jsonl")),
    (Kind::FlatMap, include_str!("templates/pipelines/test-flat-map.jsonl")),
    (Kind::Aggregate, include_str!("templates/pipelines/test-aggregate.jsonl")),
    (Kind::Process, include_str!("templates/pipelines/test-process.jsonl")),
    (Kind::WindowProcess, include_str!("templates/pipelines/test-window-process.jsonl")),
    (Kind::Partition, include_str!("templates/pipelines/test-partition.jsonl")),
];

/// The Go package, which becomes part of the project.
const GO_SDK: [File; 13] = [
    ("millstream/go.mod", include_str!("../../../sdk/go/go.mod")),
    ("millstream/columns.go", include_str!("../../../sdk/go/columns.go")),
    ("millstream/host_wasm.go", include_str!("../../../sdk/go/host_wasm.go")),
    ("millstream/abi_wasm.go", include_str!("../../../sdk/go/abi_wasm.go")),
    ("millstream/mapper/mapper.go", include_str!("../../../sdk/go/mapper/mapper.go")),
    ("millstream/aggregator/aggregator.go", include_str!("../../../sdk/go/aggregator/aggregator.go")),
    ("millstream/filter/filter.go", include_str!("../../../sdk/go/filter/filter.go")),
    ("millstream/migrator/migrator.go", include_str!("../../../sdk/go/migrator/migrator.go")),
    ("millstream/partitioner/partitioner.go", include_str!("../../../sdk/go/partitioner/partitioner.go")),
    ("millstream/flatmapper/flatmapper.go", include_str!("../../../sdk/go/flatmapper/flatmapper.go")),
    ("millstream/process.go", include_str!("../../../sdk/go/process.go")),
    ("millstream/processor/processor.go", include_str!("../../../sdk/go/processor/processor.go")),
    (
        "millstream/windowprocessor/windowprocessor.go",
        include_str!("../../../sdk/go/windowprocessor/windowprocessor.go"),
    ),
];

/// The files of a project.
pub(super) fn files(lang: Language, kind: Kind) -> Vec<File> {
    let mut files = match lang {
        Language::Rust => rust(kind),
        Language::C => c(kind),
        Language::Go => go(kind),
    };
    let pipeline = match kind {
        Kind::Aggregate => AGGREGATE,
        Kind::Process => PROCESS,
        Kind::WindowProcess => WINDOW_PROCESS,
        Kind::Partition => PARTITION,
        Kind::Map | Kind::Filter | Kind::FlatMap => STEP,
    };
    files.extend([pipeline, INPUT, README, IGNORE]);
    files.extend(SCRIPTS.iter().filter(|(of, _)| *of == kind).map(|(_, script)| ("test.jsonl", *script)));
    files
}

fn rust(kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Map => include_str!("templates/rust/map.rs.tmpl"),
        Kind::Filter => include_str!("templates/rust/filter.rs.tmpl"),
        Kind::FlatMap => include_str!("templates/rust/flat_map.rs.tmpl"),
        Kind::Aggregate => include_str!("templates/rust/aggregate.rs.tmpl"),
        Kind::Process => include_str!("templates/rust/process.rs.tmpl"),
        Kind::WindowProcess => include_str!("templates/rust/window_process.rs.tmpl"),
        Kind::Partition => include_str!("templates/rust/partition.rs.tmpl"),
    };
    vec![
        ("Cargo.toml", include_str!("templates/rust/Cargo.toml.tmpl")),
        (".cargo/config.toml", include_str!("templates/rust/config.toml.tmpl")),
        ("src/lib.rs", source),
    ]
}

fn c(kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Map => include_str!("templates/c/map.c.tmpl"),
        Kind::Aggregate => include_str!("templates/c/aggregate.c.tmpl"),
        Kind::Filter => include_str!("templates/c/filter.c.tmpl"),
        Kind::FlatMap => include_str!("templates/c/flat_map.c.tmpl"),
        Kind::Process => include_str!("templates/c/process.c.tmpl"),
        Kind::WindowProcess => include_str!("templates/c/window_process.c.tmpl"),
        Kind::Partition => include_str!("templates/c/partition.c.tmpl"),
    };
    vec![("operator.toml", include_str!("templates/c/operator.toml.tmpl")), ("operator.c", source)]
}

fn go(kind: Kind) -> Vec<File> {
    let source = match kind {
        Kind::Map => include_str!("templates/go/map.go.tmpl"),
        Kind::Aggregate => include_str!("templates/go/aggregate.go.tmpl"),
        Kind::Filter => include_str!("templates/go/filter.go.tmpl"),
        Kind::FlatMap => include_str!("templates/go/flat_map.go.tmpl"),
        Kind::Process => include_str!("templates/go/process.go.tmpl"),
        Kind::WindowProcess => include_str!("templates/go/window_process.go.tmpl"),
        Kind::Partition => include_str!("templates/go/partition.go.tmpl"),
    };
    let mut files = vec![
        ("operator.toml", include_str!("templates/go/operator.toml.tmpl")),
        ("go.mod", include_str!("templates/go/go.mod.tmpl")),
        ("main.go", source),
    ];
    files.extend(GO_SDK);
    files
}

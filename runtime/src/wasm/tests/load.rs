//! What is loaded, what is refused and how, and the cache of compiled code.

use std::fs;

use super::super::{Component, DescribeError, LoadError, Origin, Settings};
use super::template::{Wat, echo};
use super::*;

fn mapper() -> Wat {
    Wat::new(OperatorKind::Mapper, &[], &[field("n", Kind::Int64)]).function("transform", &echo(0))
}

fn load(bytes: &[u8]) -> Result<Component, LoadError> {
    sandbox().load_bytes("op.wasm", bytes)
}

fn refusal(bytes: &[u8]) -> String {
    load(bytes).unwrap_err().to_string()
}

#[test]
fn a_component_says_what_it_is() {
    let bytes = mapper().bytes();
    let component = load(&bytes).unwrap();
    assert_eq!(component.kinds(), [OperatorKind::Mapper]);
    assert_eq!(component.imports(), ["millstream:operator/types@0.1.0"]);
    assert_eq!((component.name(), component.size_bytes()), ("op.wasm", bytes.len() as u64));
    assert_eq!(component.digest(), &super::super::Digest::of(&bytes));
    let signature = component.describe(OperatorKind::Mapper, &Settings::default()).unwrap();
    assert_eq!((signature.inputs.to_string(), signature.outputs.to_string()), (String::new(), "n: int64".into()));
    let error = component.describe(OperatorKind::Filter, &Settings::default()).unwrap_err();
    assert!(matches!(error, DescribeError::Kind { .. }));
    assert_eq!(error.to_string(), "component op.wasm is no filter; it exports `mapper`");
}

#[test]
fn later_patch_versions_of_the_contract_are_taken() {
    let newer = mapper().interface("millstream:operator/mapper@0.1.7");
    let text = newer.text().replace("types@0.1.0", "types@0.1.7");
    assert!(load(&wat::parse_str(text).unwrap()).is_ok());
}

#[test]
fn what_is_no_component_is_refused_with_the_next_step() {
    assert_eq!(
        refusal(b"hello world"),
        "op.wasm is not WebAssembly: expected the bytes `\\0asm` at its start, found `hello wo`"
    );
    assert_eq!(
        refusal(b""),
        "op.wasm is not WebAssembly: expected the bytes `\\0asm` at its start, found an empty file"
    );
    assert_eq!(
        refusal(&wat::parse_str("(module)").unwrap()),
        "op.wasm is a core module, not a component; build it with `millstream build`, or turn it into one with \
         `wasm-tools component new`"
    );
    let mut damaged = mapper().bytes();
    damaged.truncate(damaged.len() / 2);
    assert!(matches!(load(&damaged), Err(LoadError::Compile { .. })));
}

#[test]
fn files_are_read_and_folders_and_missing_files_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("op.wasm");
    assert!(matches!(sandbox().load(&path), Err(LoadError::Read { .. })));
    assert!(matches!(sandbox().load(folder.path()), Err(LoadError::NotAFile { .. })));
    fs::write(&path, mapper().bytes()).unwrap();
    assert_eq!(sandbox().load(&path).unwrap().name(), path.display().to_string());
}

#[test]
fn a_component_without_a_known_operator_is_refused() {
    assert_eq!(
        refusal(&mapper().interface("millstream:operator/sorter@0.1.0").bytes()),
        "component op.wasm exports no operator: expected one of `millstream:operator/mapper@0.1.0`, \
         `millstream:operator/filter@0.1.0`, `millstream:operator/flat-mapper@0.1.0`, \
         `millstream:operator/aggregator@0.1.0`, `millstream:operator/processor@0.1.0`, \
         `millstream:operator/window-processor@0.1.0`, `millstream:operator/partitioner@0.1.0`; \
         found `millstream:operator/sorter@0.1.0`"
    );
    assert!(refusal(&wat::parse_str("(component)").unwrap()).ends_with("found nothing"));
}

#[test]
fn another_version_of_the_contract_is_refused() {
    assert_eq!(
        refusal(&mapper().interface("millstream:operator/mapper@0.2.0").bytes()),
        "component op.wasm was built for `millstream:operator/mapper@0.2.0`, this runtime has \
         `millstream:operator/mapper@0.1.0`; rebuild it with the SDK of this version"
    );
    let imports = mapper().text().replace("types@0.1.0", "types@0.2.0");
    assert!(matches!(load(&wat::parse_str(imports).unwrap()), Err(LoadError::Version { .. })));
}

#[test]
fn a_missing_or_mistyped_function_is_refused() {
    assert_eq!(
        refusal(&mapper().without("transform").bytes()),
        "component op.wasm exports `millstream:operator/mapper@0.1.0` without the function `transform`; expected \
         `func(input: batch) -> result<batch, failure>`"
    );
    let mistyped = mapper().without("transform").mistyped("transform", "(result string)", 0, "(i32.const 16)");
    let text = refusal(&mistyped.bytes());
    assert!(text.starts_with("component op.wasm has the wrong type for `transform` in"), "{text}");
    assert!(text.contains("expected `func(input: batch) -> result<batch, failure>`; "), "{text}");
}

#[test]
fn imports_from_elsewhere_are_refused() {
    let greedy = mapper().import("acme:bank/vault@1.0.0", "open", r#"(export "open" (func))"#, "open", "");
    assert_eq!(
        refusal(&greedy.bytes()),
        "component op.wasm imports `acme:bank/vault@1.0.0`, which no operator may have; allowed are \
         `millstream:operator/host`, `millstream:operator/config` and, without any effect, WASI 0.2"
    );
    let mistyped = mapper().import(
        "millstream:operator/host@0.1.0",
        "counter",
        r#"(export "counter" (func (param "name" string)))"#,
        "count",
        "(param i32 i32)",
    );
    assert!(matches!(load(&mistyped.bytes()), Err(LoadError::Link { .. })));
}

#[test]
fn compiled_code_is_kept_and_damaged_code_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let open = || Sandbox::new(SandboxOptions { cache: Some(cache.clone()), instances_max: 2 }).unwrap();
    let bytes = mapper().bytes();
    let origin = || open().load_bytes("op.wasm", &bytes).unwrap().origin();
    let is_cached = || matches!(origin(), Origin::Cached { .. });
    assert!(!is_cached());
    assert!(is_cached());
    let files: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let code = fs::read(file).unwrap();
    // the last: one bit of machine code, which wasmtime does not look at
    let mut flipped = code.clone();
    flipped[32 + 4096 + 16] ^= 1;
    for damage in [&code[..code.len() - 1], &code[1..], b"", &flipped] {
        fs::write(file, damage).unwrap();
        assert!(!is_cached());
        assert!(is_cached());
    }
}

#[cfg(unix)]
#[test]
fn compiled_code_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let open = || Sandbox::new(SandboxOptions { cache: Some(cache.clone()), instances_max: 2 }).unwrap();
    open().load_bytes("op.wasm", &mapper().bytes()).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&cache), mode(&file)), (0o700, 0o600));
    // a folder that others may write to is not used
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let component = open().load_bytes("op.wasm", &mapper().bytes()).unwrap();
    assert!(matches!(component.origin(), Origin::Compiled { .. }));
}

#[test]
fn more_guests_than_the_sandbox_has_room_for_are_refused() {
    let sandbox = Sandbox::new(SandboxOptions { cache: None, instances_max: 1 }).unwrap();
    let component = sandbox.load_bytes("op.wasm", &mapper().bytes()).unwrap();
    let first = component.guest(OperatorKind::Mapper, options()).unwrap();
    let error = component.guest(OperatorKind::Mapper, options()).unwrap_err().to_string();
    assert!(error.contains("raise the sandbox's instances_max"), "{error}");
    drop(first);
    assert!(component.guest(OperatorKind::Mapper, options()).is_ok());
}

#[test]
fn what_tasks_hold_may_move_between_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Send + Sync>() {}
    is_send::<super::super::Guest>();
    is_sync::<Component>();
    is_sync::<Sandbox>();
}

#[cfg(target_os = "linux")]
#[test]
fn the_epoch_thread_ends_with_the_last_guest() {
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).filter(|name| name.trim() == "epoch-of-test").count()
    };
    let sandbox = Sandbox::named(SandboxOptions { cache: None, instances_max: 1 }, "epoch-of-test").unwrap();
    let component = sandbox.load_bytes("op.wasm", &mapper().bytes()).unwrap();
    let guest = component.guest(OperatorKind::Mapper, options()).unwrap();
    drop((sandbox, component));
    std::thread::sleep(crate::limits::EPOCH_TICK * 10);
    assert_eq!(threads(), 1);
    drop(guest);
    for _ in 0..1_000 {
        if threads() == 0 {
            return;
        }
        std::thread::sleep(crate::limits::EPOCH_TICK);
    }
    panic!("the thread goes on");
}

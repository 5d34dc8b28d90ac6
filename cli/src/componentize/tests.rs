//! Tests of what becomes of core modules.

use wit_parser::{Resolve, WorldItem};

use super::contract::Contract;
use super::{ComponentizeError, Kind, componentize};

/// Go's compiler refuses wasm exports whose arguments take 15 or 16 values; from 17 on they are passed as a pointer.
#[test]
fn no_export_of_the_contract_has_15_or_16_flat_parameters() {
    let contract = Contract::parse().unwrap();
    let mut seen = 0;
    for kind in Kind::ALL {
        let world = contract.world(kind.world()).unwrap();
        for item in contract.resolve.worlds[world].exports.values() {
            let WorldItem::Interface { id, .. } = item else { panic!("worlds export interfaces only") };
            for (name, function) in &contract.resolve.interfaces[*id].functions {
                let flat: usize = function.params.iter().map(|parameter| flat(&contract.resolve, &parameter.ty)).sum();
                assert!(!(15..=16).contains(&flat), "{kind} {name} has {flat} flat parameters");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 17);
}

fn flat(resolve: &Resolve, ty: &wit_parser::Type) -> usize {
    use wit_parser::{Type, TypeDefKind};
    let Type::Id(id) = ty else { return if matches!(ty, Type::String) { 2 } else { 1 } };
    match &resolve.types[*id].kind {
        TypeDefKind::Record(record) => record.fields.iter().map(|field| flat(resolve, &field.ty)).sum(),
        TypeDefKind::List(_) => 2,
        TypeDefKind::Type(alias) => flat(resolve, alias),
        other => panic!("{other:?} is not a parameter yet: count it here"),
    }
}

#[test]
fn a_kind_is_named_as_in_pipelines_or_as_a_world() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(kind.world().parse(), Ok(kind));
    }
    let unknown = "mapper".parse::<Kind>().unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "no operator is called \"mapper\"; there are: map, filter, flat_map, aggregate, process, window_process, partition"
    );
}

#[test]
fn what_is_no_wasm_is_refused_by_its_first_bytes() {
    let error = componentize(b"\x7fELF\x02", None).unwrap_err().to_string();
    assert!(error.ends_with("got 7f 45 4c 46"), "{error}");
    let error = componentize(b"", None).unwrap_err().to_string();
    assert!(error.ends_with("got an empty file"), "{error}");
}

#[test]
fn a_component_comes_back_unchanged() {
    let component = wat::parse_str("(component)").unwrap();
    assert_eq!(componentize(&component, Some("map")).unwrap(), component);
}

#[test]
fn a_module_without_exports_of_a_world_must_be_told_one() {
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(componentize(&module, None), Err(ComponentizeError::NoWorld)));
    let error = componentize(&module, Some("filter")).unwrap_err().to_string();
    assert!(error.starts_with("the module does not fit the world filter-operator: "), "{error}");
}

/// A filter that keeps nothing, as a core module.
const FILTER: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "millstream:operator/filter@0.1.0#describe") (result i32)
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 8)))
        i32.const 16)
    (func (export "millstream:operator/filter@0.1.0#select") (param i32 i32 i32) (result i32) i32.const 64)
)"#;

/// Names of what a component exports.
fn exports(component: &[u8]) -> Vec<String> {
    let wit_component::DecodedWasm::Component(resolve, world) = wit_component::decode(component).unwrap() else {
        panic!("not a component")
    };
    resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect()
}

#[test]
fn a_module_that_takes_over_state_exports_that_too() {
    let function = |name: &str, parameters: &str| {
        format!(r#"(func (export "millstream:operator/{name}") {parameters} (result i32) i32.const 16)"#)
    };
    let functions = [
        function("aggregator@0.1.0#describe", ""),
        function("aggregator@0.1.0#create", ""),
        function("aggregator@0.1.0#accumulate", "(param i32 i32 i32 i32 i32 i32 i32 i32)"),
        function("aggregator@0.1.0#merge", "(param i32 i32 i32 i32 i32 i32)"),
        function("aggregator@0.1.0#finish", "(param i32 i32 i32)"),
        function("migrator@0.1.0#sources", ""),
        function("migrator@0.1.0#migrate", "(param i32 i32 i32 i32)"),
    ];
    let memory = r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)"#;
    let module = |functions: &[String]| wat::parse_str(format!("(module {memory} {})", functions.concat())).unwrap();
    let found = |functions: &[String]| exports(&componentize(&module(functions), None).unwrap());
    let [aggregator, migrator] = ["aggregator", "migrator"].map(|name| format!("millstream:operator/{name}@0.1.0"));
    assert_eq!(found(&functions), [aggregator.clone(), migrator]);
    assert_eq!(found(&functions[..5]), [aggregator]);
}

#[test]
fn a_module_that_exports_a_world_becomes_its_component_without_wasi() {
    let component = componentize(&wat::parse_str(FILTER).unwrap(), None).unwrap();
    let (resolve, world) = match wit_component::decode(&component).unwrap() {
        wit_component::DecodedWasm::Component(resolve, world) => (resolve, world),
        wit_component::DecodedWasm::WitPackage(..) => panic!("not a component"),
    };
    let name = |key| resolve.name_world_key(key);
    let world = &resolve.worlds[world];
    assert_eq!(world.exports.keys().map(name).collect::<Vec<_>>(), ["millstream:operator/filter@0.1.0"]);
    let imports: Vec<_> = world.imports.keys().map(name).collect();
    assert!(imports.contains(&"millstream:operator/host@0.1.0".to_owned()), "{imports:?}");
    assert!(!imports.iter().any(|import| import.contains("wasi")), "{imports:?}");
}

#[test]
fn a_module_of_one_world_is_not_taken_for_another() {
    let error = componentize(&wat::parse_str(FILTER).unwrap(), Some("map")).unwrap_err().to_string();
    assert!(error.contains("map-operator"), "{error}");
}

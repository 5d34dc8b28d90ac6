//! Components in text form, from one template: honest and hostile guests without a guest toolchain.
//!
//! A guest's answers are laid out in its memory beforehand, as the canonical ABI wants them; its functions mostly return
//! the address of one.

use std::fmt::Write as _;

use crate::record::{Field, Kind};
use crate::wasm::OperatorKind;

/// The types of the contract, as a component imports them.
const TYPES: &str = r#"
  (type $types (instance
    (type $kind-def (enum "boolean" "int64" "float64" "text" "binary" "timestamp-ms"))
    (export "kind" (type $kind (eq $kind-def)))
    (type $field-def (record (field "name" string) (field "kind" $kind) (field "nullable" bool)))
    (export "field" (type $field (eq $field-def)))
    (type $varlen-def (record (field "offsets" (list u32)) (field "bytes" (list u8))))
    (export "varlen" (type $varlen (eq $varlen-def)))
    (type $values-def (variant (case "boolean" (list u8)) (case "int64" (list s64)) (case "float64" (list f64))
      (case "text" $varlen) (case "binary" $varlen) (case "timestamp-ms" (list s64))))
    (export "values" (type $values (eq $values-def)))
    (type $column-def (record (field "values" $values) (field "validity" (option (list u8)))))
    (export "column" (type $column (eq $column-def)))
    (type $batch-def (record (field "rows" u32) (field "columns" (list $column))))
    (export "batch" (type $batch (eq $batch-def)))
    (type $state-def (record (field "version" u32) (field "fields" (list $field))))
    (export "state-schema" (type $state (eq $state-def)))
    (type $signature-def (record (field "inputs" (list $field)) (field "outputs" (list $field))
      (field "state" (option $state))))
    (export "signature" (type $signature (eq $signature-def)))
    (type $row-failure-def (record (field "row" u32) (field "reason" string)))
    (export "row-failure" (type $row-failure (eq $row-failure-def)))
    (type $failure-def (variant (case "rows" (list $row-failure)) (case "batch" string) (case "retry" string)))
    (export "failure" (type $failure (eq $failure-def)))))
  (import "millstream:operator/types@0.1.0" (instance $types (type $types)))
  (alias export $types "batch" (type $batch))
  (alias export $types "failure" (type $failure))
  (alias export $types "signature" (type $signature))
"#;

/// Memory, and an allocator that grows upward; a function that is done with its input sets `$top` back.
const ALLOCATOR: &str = r#"
    (global $top (mut i32) (i32.const 65536))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get 2) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get 2))))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))))
      (local.get $at))
"#;

/// Answers `ok` with the batch given as three parameters from `first` on, and gives the input's memory back.
pub(super) fn echo(first: usize) -> String {
    format!(
        "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (local.get {first}))
         (i32.store (i32.const 24) (local.get {})) (i32.store (i32.const 28) (local.get {}))
         (global.set $top (i32.const 65536)) (i32.const 16)",
        first + 1,
        first + 2
    )
}

/// The values of one column as a guest returns them.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Boolean(Vec<u8>),
    Int64(Vec<i64>),
    Text(Vec<u32>, Vec<u8>),
    Binary(Vec<u32>, Vec<u8>),
}

/// A column: values and validity.
pub(super) type Column = (Values, Option<Vec<u8>>);

/// A component under construction.
pub(super) struct Wat {
    kind: OperatorKind,
    interface: String,
    pages: u32,
    head: String,
    core_imports: String,
    with: String,
    functions: Vec<(String, String, usize, String)>,
    image: Vec<u8>,
}

/// Options of everything that crosses the boundary.
const CANONICAL: &str = r#"(memory (core memory $libc "memory")) (realloc (core func $libc "cabi_realloc"))"#;

/// Where answers are laid out in memory.
const IMAGE_AT: u32 = 1024;

impl Wat {
    /// An operator of `kind` that reads and produces these columns. For aggregators `outputs` are the state's too.
    pub(super) fn new(kind: OperatorKind, inputs: &[Field], outputs: &[Field]) -> Self {
        let mut wat = Self {
            kind,
            interface: format!("millstream:operator/{}@0.1.0", kind.interface()),
            pages: 2,
            head: TYPES.into(),
            core_imports: String::new(),
            with: String::new(),
            functions: Vec::new(),
            image: Vec::new(),
        };
        let state = (kind == OperatorKind::Aggregator).then_some((1, outputs));
        let described = wat.signature(inputs, outputs, state);
        wat.function("describe", &format!("(i32.const {described})"))
    }

    /// Adds a function of the contract; `body` leaves the address of the answer.
    pub(super) fn function(mut self, name: &str, body: &str) -> Self {
        let batch_result = "(result (result $batch (error $failure)))";
        let (ty, params) = match name {
            "describe" => ("(result (result $signature (error string)))".to_owned(), 0),
            "transform" => (format!("(param \"input\" $batch) {batch_result}"), 3),
            "select" => ("(param \"input\" $batch) (result (result (list u8) (error $failure)))".into(), 3),
            "route" => (
                "(param \"input\" $batch) (param \"targets\" u32) (result (result (list u32) (error $failure)))".into(),
                4,
            ),
            "expand" => ("(param \"input\" $batch) (result (result $expansion (error $failure)))".into(), 3),
            "create" => (batch_result.into(), 0),
            "accumulate" => (
                format!(
                    "(param \"groups\" (list u32)) (param \"accumulators\" $batch) (param \"input\" $batch) {batch_result}"
                ),
                8,
            ),
            "merge" => (format!("(param \"left\" $batch) (param \"right\" $batch) {batch_result}"), 6),
            "finish" => (format!("(param \"accumulators\" $batch) {batch_result}"), 3),
            other => panic!("`{other}` is no function of the contract"),
        };
        self.functions.retain(|(known, ..)| known != name);
        self.functions.push((name.into(), ty, params, body.into()));
        self
    }

    /// A function with another type than the contract's.
    pub(super) fn mistyped(mut self, name: &str, ty: &str, params: usize, body: &str) -> Self {
        self.functions.push((name.into(), ty.into(), params, body.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.functions.retain(|(known, ..)| known != name);
        self
    }

    /// Exports under another name.
    pub(super) fn interface(mut self, name: &str) -> Self {
        self.interface = name.into();
        self
    }

    /// Pages of 64 KiB at the start.
    pub(super) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// Imports `interface`, an instance with this `function`, callable in bodies as `$name`. `core` is its lowered type.
    pub(super) fn import(mut self, interface: &str, function: &str, ty: &str, name: &str, core: &str) -> Self {
        let _ = write!(
            self.head,
            r#"(import "{interface}" (instance ${name}-i {ty})) (alias export ${name}-i "{function}" (func ${name}-f))
               (core func ${name}-c (canon lower (func ${name}-f) {CANONICAL}))"#
        );
        let _ = write!(self.core_imports, "(import \"host\" \"{name}\" (func ${name} {core}))");
        let _ = write!(self.with, "(export \"{name}\" (func ${name}-c))");
        self
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let mut core = String::new();
        let mut lifted = String::new();
        let mut exports = String::new();
        for (name, ty, params, body) in &self.functions {
            let params = "i32 ".repeat(*params);
            let _ = writeln!(core, "(func (export \"{name}\") (param {params}) (result i32) {body})");
            let _ = writeln!(lifted, "(func ${name} {ty} (canon lift (core func $guest \"{name}\") {CANONICAL}))");
            let _ = write!(exports, "(export \"{name}\" (func ${name}))");
        }
        let expansion = if self.kind == OperatorKind::FlatMapper {
            r#"(type $expansion-def (record (field "origin" (list u32)) (field "output" $batch)))
               (export $expansion "expansion" (type $expansion-def))"#
        } else {
            ""
        };
        let image: String = self.image.iter().map(|byte| format!("\\{byte:02x}")).collect();
        // the allocator is a module of its own, so that imports can be lowered before the guest is instantiated
        let libc = format!(
            r#"(core module $libc-m (memory (export "memory") {}) {} (export "top" (global $top)))
               (core instance $libc (instantiate $libc-m))"#,
            self.pages, ALLOCATOR
        );
        format!(
            "(component {libc} {} {expansion}
               (core module $guest-m (import \"libc\" \"memory\" (memory 0))
                 (import \"libc\" \"top\" (global $top (mut i32))) {}
                 {core} (data (i32.const {IMAGE_AT}) \"{image}\"))
               (core instance $guest (instantiate $guest-m (with \"libc\" (instance $libc))
                 (with \"host\" (instance {}))))
               {lifted}
               (instance $operator {exports})
               (export \"{}\" (instance $operator)))",
            self.head, self.core_imports, self.with, self.interface
        )
    }

    /// The binary.
    pub(super) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.image.resize(self.image.len().next_multiple_of(8), 0);
        let address = IMAGE_AT + u32::try_from(self.image.len()).unwrap();
        self.image.extend_from_slice(bytes);
        assert!(self.image.len() < 60_000, "answers overlap the allocator's memory");
        address
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Address and length of a text in memory.
    pub(super) fn string(&mut self, text: &str) -> [u32; 2] {
        [self.put(text.as_bytes()), u32::try_from(text.len()).unwrap()]
    }

    fn fields(&mut self, fields: &[Field]) -> [u32; 2] {
        let mut words = Vec::new();
        for field in fields {
            let kind = Kind::ALL.iter().position(|kind| *kind == field.kind).unwrap();
            words.extend(self.string(&field.name));
            words.push(u32::try_from(kind).unwrap() | u32::from(field.nullable) << 8);
        }
        [self.words(&words), u32::try_from(fields.len()).unwrap()]
    }

    /// `ok(signature)`
    pub(super) fn signature(&mut self, inputs: &[Field], outputs: &[Field], state: Option<(u32, &[Field])>) -> u32 {
        let [inputs, inputs_len] = self.fields(inputs);
        let [outputs, outputs_len] = self.fields(outputs);
        let [some, version, fields, fields_len] = state.map_or([0; 4], |(version, fields)| {
            let [fields, len] = self.fields(fields);
            [1, version, fields, len]
        });
        self.words(&[0, inputs, inputs_len, outputs, outputs_len, some, version, fields, fields_len])
    }

    /// `rows`, `columns` of a batch.
    pub(super) fn batch(&mut self, rows: u32, columns: &[Column]) -> [u32; 3] {
        let mut words = Vec::new();
        for (values, validity) in columns {
            words.extend(self.values(values));
            match validity {
                Some(bytes) => words.extend([1, self.put(bytes), u32::try_from(bytes.len()).unwrap()]),
                None => words.extend([0; 3]),
            }
        }
        [rows, self.words(&words), u32::try_from(columns.len()).unwrap()]
    }

    fn values(&mut self, values: &Values) -> [u32; 5] {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        match values {
            Values::Boolean(bytes) => [0, self.put(bytes), length(bytes), 0, 0],
            Values::Int64(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                [1, self.put(&bytes), length(&bytes) / 8, 0, 0]
            }
            Values::Text(offsets, bytes) | Values::Binary(offsets, bytes) => {
                let case = if matches!(values, Values::Text(..)) { 3 } else { 4 };
                let count = u32::try_from(offsets.len()).unwrap();
                [case, self.words(offsets), count, self.put(bytes), length(bytes)]
            }
        }
    }

    /// A function that always answers these words (a `result` whose first word is 0 for ok).
    pub(super) fn answers(mut self, function: &str, words: &[u32]) -> Self {
        let address = self.words(words);
        self.function(function, &format!("(global.set $top (i32.const 65536)) (i32.const {address})"))
    }

    /// A function that always answers this batch.
    pub(super) fn answers_batch(mut self, function: &str, rows: u32, columns: &[Column]) -> Self {
        let [rows, columns, count] = self.batch(rows, columns);
        self.answers(function, &[0, rows, columns, count])
    }
}

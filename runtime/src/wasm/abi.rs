//! The contract's types as they cross the boundary, one Rust type for each WIT type and direction.
//!
//! `..In` types borrow: lowering copies straight from Arrow buffers into guest memory. `..Out` types own: what a
//! guest returns is freed within the call, so it is copied out before (see `lift` for the checks).

use wasmtime::component::{ComponentType, Lift, Lower, TypedFunc};

/// `types.batch` on its way into a guest.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct BatchIn<'a> {
    pub(super) rows: u32,
    pub(super) columns: &'a [ColumnIn<'a>],
}

/// `types.column` on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct ColumnIn<'a> {
    pub(super) values: ValuesIn<'a>,
    pub(super) validity: Option<&'a [u8]>,
}

/// `types.values` on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(super) enum ValuesIn<'a> {
    #[component(name = "boolean")]
    Boolean(&'a [u8]),
    #[component(name = "int64")]
    Int64(&'a [i64]),
    #[component(name = "float64")]
    Float64(&'a [f64]),
    #[component(name = "text")]
    Text(VarlenIn<'a>),
    #[component(name = "binary")]
    Binary(VarlenIn<'a>),
    #[component(name = "timestamp-ms")]
    TimestampMs(&'a [i64]),
}

/// `types.varlen` on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct VarlenIn<'a> {
    pub(super) offsets: &'a [u32],
    pub(super) bytes: &'a [u8],
}

/// `types.batch` as a guest returned it: nothing about it is known to hold.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct BatchOut {
    pub(super) rows: u32,
    pub(super) columns: Vec<ColumnOut>,
}

/// `types.column` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct ColumnOut {
    pub(super) values: ValuesOut,
    pub(super) validity: Option<Vec<u8>>,
}

/// `types.values` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(super) enum ValuesOut {
    #[component(name = "boolean")]
    Boolean(Vec<u8>),
    #[component(name = "int64")]
    Int64(Vec<i64>),
    #[component(name = "float64")]
    Float64(Vec<f64>),
    #[component(name = "text")]
    Text(VarlenOut),
    #[component(name = "binary")]
    Binary(VarlenOut),
    #[component(name = "timestamp-ms")]
    TimestampMs(Vec<i64>),
}

/// `types.varlen` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct VarlenOut {
    pub(super) offsets: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

/// `flat-mapper.expansion` or `window-processor.window-results` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct ExpansionOut {
    pub(super) origin: Vec<u32>,
    pub(super) output: BatchOut,
}

/// `types.kind`.
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // made by `Lift` alone
pub(super) enum KindOut {
    #[component(name = "boolean")]
    Boolean,
    #[component(name = "int64")]
    Int64,
    #[component(name = "float64")]
    Float64,
    #[component(name = "text")]
    Text,
    #[component(name = "binary")]
    Binary,
    #[component(name = "timestamp-ms")]
    TimestampMs,
}

/// `types.field` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct FieldOut {
    pub(super) name: String,
    pub(super) kind: KindOut,
    pub(super) nullable: bool,
}

/// `types.state-schema` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct StateSchemaOut {
    pub(super) version: u32,
    pub(super) fields: Vec<FieldOut>,
}

/// `types.signature` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct SignatureOut {
    pub(super) inputs: Vec<FieldOut>,
    pub(super) outputs: Vec<FieldOut>,
    pub(super) state: Option<StateSchemaOut>,
}

/// `types.row-failure` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct RowFailureOut {
    pub(super) row: u32,
    pub(super) reason: String,
}

/// `types.failure` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(super) enum FailureOut {
    #[component(name = "rows")]
    Rows(Vec<RowFailureOut>),
    #[component(name = "batch")]
    Batch(String),
    #[component(name = "retry")]
    Retry(String),
}

/// `host.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // made by `Lift` alone
pub(super) enum LevelOut {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// `config.setting` on its way in.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(variant)]
pub(super) enum SettingIn {
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "float64")]
    Float64(f64),
    #[component(name = "text")]
    Text(String),
}

// Parameters and results of the exported functions. `TypedFunc` is covariant in its parameters, so a function of
// `BatchIn<'static>` is called with batches of any lifetime: no type check a call, and nothing unsafe.
pub(super) type BatchParams<'a> = (BatchIn<'a>,);
pub(super) type PairParams<'a> = (BatchIn<'a>, BatchIn<'a>);
pub(super) type AccumulateParams<'a> = (&'a [u32], BatchIn<'a>, BatchIn<'a>);
pub(super) type WindowsParams<'a> = (&'a [i64], &'a [i64], &'a [u32], &'a [i64], BatchIn<'a>);
pub(super) type BatchReturn = (Result<BatchOut, FailureOut>,);
pub(super) type RouteParams<'a> = (BatchIn<'a>, u32);
pub(super) type RouteReturn = (Result<Vec<u32>, FailureOut>,);
pub(super) type MaskReturn = (Result<Vec<u8>, FailureOut>,);
pub(super) type ExpansionReturn = (Result<ExpansionOut, FailureOut>,);
pub(super) type MigrateParams<'a> = (u32, BatchIn<'a>);
pub(super) type SourcesReturn = (Result<Vec<StateSchemaOut>, String>,);
pub(super) type DescribeReturn = (Result<SignatureOut, String>,);

pub(super) type Describe = TypedFunc<(), DescribeReturn>;
pub(super) type Transform = TypedFunc<BatchParams<'static>, BatchReturn>;
pub(super) type Select = TypedFunc<BatchParams<'static>, MaskReturn>;
pub(super) type Route = TypedFunc<RouteParams<'static>, RouteReturn>;
pub(super) type Expand = TypedFunc<BatchParams<'static>, ExpansionReturn>;
pub(super) type ProcessWindows = TypedFunc<WindowsParams<'static>, ExpansionReturn>;
pub(super) type Create = TypedFunc<(), BatchReturn>;
pub(super) type Accumulate = TypedFunc<AccumulateParams<'static>, BatchReturn>;
pub(super) type Merge = TypedFunc<PairParams<'static>, BatchReturn>;
pub(super) type Finish = TypedFunc<BatchParams<'static>, BatchReturn>;
pub(super) type Sources = TypedFunc<(), SourcesReturn>;
pub(super) type Migrate = TypedFunc<MigrateParams<'static>, BatchReturn>;

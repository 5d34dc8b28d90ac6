//! The types of `processor.wit` as they cross the boundary; as in [`super::abi`], `..In` borrow and `..Out` own.

use wasmtime::component::{ComponentType, Lift, Lower, TypedFunc};

use super::abi::{BatchIn, BatchOut, FailureOut, FieldOut, StateSchemaOut};

/// `processor.side-output` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct SideOutputOut {
    pub(super) name: String,
    pub(super) fields: Vec<FieldOut>,
}

/// `processor.process-signature` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct ProcessSignatureOut {
    pub(super) inputs: Vec<FieldOut>,
    #[component(name = "second-inputs")]
    pub(super) second_inputs: Option<Vec<FieldOut>>,
    pub(super) keys: Vec<FieldOut>,
    pub(super) outputs: Vec<FieldOut>,
    pub(super) sides: Vec<SideOutputOut>,
    pub(super) state: StateSchemaOut,
}

/// `processor.timers` on its way in.
#[derive(Clone, Copy, Debug, Default, ComponentType, Lower)]
#[component(record)]
pub(super) struct TimersIn<'a> {
    pub(super) groups: &'a [u32],
    pub(super) times: &'a [i64],
    pub(super) clocks: &'a [u8],
}

/// `processor.call` on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct CallIn<'a> {
    pub(super) now: i64,
    pub(super) watermark: i64,
    pub(super) keys: BatchIn<'a>,
    pub(super) present: &'a [u8],
    pub(super) state: BatchIn<'a>,
    pub(super) port: u32,
    pub(super) groups: &'a [u32],
    pub(super) times: &'a [i64],
    pub(super) input: BatchIn<'a>,
    pub(super) fired: TimersIn<'a>,
}

/// `processor.timers` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct TimersOut {
    pub(super) groups: Vec<u32>,
    pub(super) times: Vec<i64>,
    pub(super) clocks: Vec<u8>,
}

/// `processor.side-rows` as returned.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct SideRowsOut {
    pub(super) side: u32,
    pub(super) origin: Vec<u32>,
    pub(super) output: BatchOut,
}

/// `processor.outcome` as returned: nothing about it is known to hold.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct OutcomeOut {
    pub(super) present: Vec<u8>,
    pub(super) state: BatchOut,
    pub(super) origin: Vec<u32>,
    pub(super) output: BatchOut,
    pub(super) sides: Vec<SideRowsOut>,
    pub(super) deleted: TimersOut,
    pub(super) set: TimersOut,
}

pub(super) type ProcessParams<'a> = (CallIn<'a>,);
pub(super) type OutcomeReturn = (Result<OutcomeOut, FailureOut>,);
pub(super) type DescribeProcessReturn = (Result<ProcessSignatureOut, String>,);

pub(super) type DescribeProcess = TypedFunc<(), DescribeProcessReturn>;
pub(super) type Process = TypedFunc<ProcessParams<'static>, OutcomeReturn>;

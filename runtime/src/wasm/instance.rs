//! One instance of a component: its store, what bounds it, and its functions.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{ComponentExportIndex, Instance, InstancePre};
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use super::OperatorKind;
use super::abi::{
    Accumulate, AccumulateParams, BatchOut, BatchParams, Create, Describe, Expand, ExpansionOut, FailureOut, Finish,
    Merge, Migrate, MigrateParams, PairParams, ProcessWindows, Route, RouteParams, Select, Sources, StateSchemaOut,
    Transform, WindowsParams,
};
use super::contract::Export;
use super::error::CallError;
use super::host::Voice;
use super::metrics::GuestMetrics;
use super::process_abi::{CallIn, DescribeProcess, OutcomeOut, Process};
use super::settings::{Secrets, Settings};
use super::signature::Said;
use super::wasi::{Denied, VirtualWorld};
use super::witness::World;
use crate::limits;

/// Elements that the tables of an instance may have in sum: the functions that are called indirectly.
pub(super) const TABLE_ELEMENTS_MAX: usize = 200_000;

/// Core instances, memories and tables of one component instance. Python's components have some thirty modules.
const PARTS_MAX: usize = 100;

/// What belongs to one instance.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) voice: Voice,
    pub(super) world: VirtualWorld,
    /// what `world` is at the start of every call
    fresh_world: VirtualWorld,
    pub(super) memory: MemoryBound,
}

/// Bounds on what an instance may hold.
#[derive(Debug)]
pub(super) struct MemoryBound {
    limit_bytes: usize,
    /// of all memories
    used_bytes: usize,
    /// of all tables
    table_elements: usize,
    /// what a refused growth would have led to, since the call began
    denied_bytes: Option<usize>,
}

impl MemoryBound {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: 0, table_elements: 0, denied_bytes: None }
    }
}

impl ResourceLimiter for MemoryBound {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // the memory's own maximum, not ours
        }
        let wanted = self.used_bytes.saturating_add(desired.saturating_sub(current));
        let allowed = wanted <= self.limit_bytes;
        if allowed {
            self.used_bytes = wanted;
        } else {
            self.denied_bytes = Some(wanted);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.table_elements.saturating_add(desired.saturating_sub(current));
        let allowed = wanted <= TABLE_ELEMENTS_MAX;
        if allowed {
            self.table_elements = wanted;
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// All that is needed to make an instance again after a trap.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) settings: Settings,
    pub(super) memory_bytes: usize,
    pub(super) deadline: Duration,
    pub(super) step: String,
    pub(super) task: u32,
    pub(super) version: u64,
    pub(super) digest: String,
    pub(super) metrics: Arc<GuestMetrics>,
    /// in place of the world that step and component give
    pub(super) world: Option<World>,
}

impl Conditions {
    /// What a call sees of clock and random numbers when it begins.
    pub(super) fn world(&self) -> World {
        self.world.unwrap_or_else(|| VirtualWorld::new(&self.step, &self.digest).begin())
    }

    /// Ticks of the epoch that a call may take. The tick in progress does not count as a whole one, so one more; and a
    /// single tick could be over at once.
    fn deadline_ticks(&self) -> u64 {
        let ticks = self.deadline.as_nanos().div_ceil(limits::EPOCH_TICK.as_nanos().max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX / 2).clamp(1, u64::MAX / 2) + 1
    }
}

/// A running instance and its functions.
pub(super) struct Live {
    store: Store<State>,
    deadline_ticks: u64,
    functions: Functions,
    /// where the component takes over other state
    migrator: Option<(Sources, Migrate)>,
}

/// The functions of each kind of operator.
enum Functions {
    Mapper(Describe, Transform),
    Filter(Describe, Select),
    FlatMapper(Describe, Expand),
    Aggregator { describe: Describe, create: Create, accumulate: Accumulate, merge: Merge, finish: Finish },
    Processor { describe: DescribeProcess, process: Process },
    WindowProcessor(Describe, ProcessWindows),
    Partitioner(Describe, Route),
}

/// A call's outcome: the guest's answer, or its refusal, or a trap.
pub(super) type Answer<T> = wasmtime::Result<Result<T, FailureOut>>;

impl Live {
    /// Makes an instance. Its start function runs under the same bounds as a call.
    pub(super) fn new(
        pre: &InstancePre<State>,
        (export, migrator): (&Export, Option<&[ComponentExportIndex]>),
        conditions: &Conditions,
    ) -> Result<Self, CallError> {
        let Conditions { settings, memory_bytes, step, task, version, digest, metrics, .. } = conditions;
        let world = VirtualWorld::from(conditions.world());
        let mut voice = Voice::new(step, *task, (*version, digest.clone()), Arc::clone(metrics));
        voice.secrets = Secrets::of(settings);
        let state = State {
            settings: Arc::clone(settings),
            voice,
            world: world.clone(),
            fresh_world: world,
            memory: MemoryBound::new(*memory_bytes),
        };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        // bounds what a guest's answer takes in the host: no honest answer is larger than the guest's memory
        store.set_hostcall_fuel(*memory_bytes);
        let deadline_ticks = conditions.deadline_ticks();
        store.set_epoch_deadline(deadline_ticks);
        let made = pre.instantiate(&mut store).and_then(|instance| {
            let functions = Functions::find(&instance, &mut store, export)?;
            let Some(migrator) = migrator else { return Ok((functions, None)) };
            let (sources, migrate) = (migrator.first(), migrator.get(1));
            let migrator = (function(&instance, &mut store, sources)?, function(&instance, &mut store, migrate)?);
            Ok((functions, Some(migrator)))
        });
        GuestMetrics::add(&metrics.instances, 1);
        match made {
            Ok((functions, migrator)) => Ok(Self { store, deadline_ticks, functions, migrator }),
            Err(error) => Err(explain(&error, store.data_mut(), conditions, "instantiating")),
        }
    }

    /// Starts the deadline of a call and forgets what earlier calls left for error messages.
    pub(super) fn begin_call(&mut self) {
        self.store.set_epoch_deadline(self.deadline_ticks);
        let state = self.store.data_mut();
        state.memory.denied_bytes = None;
        state.world.clone_from(&state.fresh_world);
        state.voice.begin_call();
    }

    pub(super) fn explain(&mut self, error: &wasmtime::Error, conditions: &Conditions) -> CallError {
        explain(error, self.store.data_mut(), conditions, "calling")
    }

    pub(super) fn describe(&mut self) -> wasmtime::Result<Result<Said, String>> {
        let describe = match &self.functions {
            Functions::Mapper(describe, _)
            | Functions::Filter(describe, _)
            | Functions::FlatMapper(describe, _)
            | Functions::WindowProcessor(describe, _)
            | Functions::Partitioner(describe, _)
            | Functions::Aggregator { describe, .. } => describe,
            Functions::Processor { describe, .. } => {
                let said = describe.call(&mut self.store, ()).map(|(answer,)| answer)?;
                return Ok(said.map(Said::from));
            }
        };
        let said = describe.call(&mut self.store, ()).map(|(answer,)| answer)?;
        Ok(said.map(Said::from))
    }

    /// Which other states it takes over; none where it exports nothing for it.
    pub(super) fn sources(&mut self) -> wasmtime::Result<Result<Vec<StateSchemaOut>, String>> {
        let Some((sources, _)) = &self.migrator else { return Ok(Ok(Vec::new())) };
        sources.call(&mut self.store, ()).map(|(answer,)| answer)
    }

    pub(super) fn migrate(&mut self, params: MigrateParams<'_>) -> Answer<BatchOut> {
        let Some((_, migrate)) = &self.migrator else {
            return Err(wasmtime::Error::msg("the component takes over no state"));
        };
        migrate.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn process(&mut self, call: CallIn<'_>) -> Answer<OutcomeOut> {
        let Functions::Processor { process, .. } = &self.functions else {
            return Err(wrong_kind(OperatorKind::Processor));
        };
        process.call(&mut self.store, (call,)).map(|(answer,)| answer)
    }

    pub(super) fn transform(&mut self, params: BatchParams<'_>) -> Answer<BatchOut> {
        let Functions::Mapper(_, transform) = &self.functions else { return Err(wrong_kind(OperatorKind::Mapper)) };
        transform.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn select(&mut self, params: BatchParams<'_>) -> Answer<Vec<u8>> {
        let Functions::Filter(_, select) = &self.functions else { return Err(wrong_kind(OperatorKind::Filter)) };
        select.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn route(&mut self, params: RouteParams<'_>) -> Answer<Vec<u32>> {
        let Functions::Partitioner(_, route) = &self.functions else {
            return Err(wrong_kind(OperatorKind::Partitioner));
        };
        route.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn expand(&mut self, params: BatchParams<'_>) -> Answer<ExpansionOut> {
        let Functions::FlatMapper(_, expand) = &self.functions else {
            return Err(wrong_kind(OperatorKind::FlatMapper));
        };
        expand.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn process_windows(&mut self, params: WindowsParams<'_>) -> Answer<ExpansionOut> {
        let Functions::WindowProcessor(_, process) = &self.functions else {
            return Err(wrong_kind(OperatorKind::WindowProcessor));
        };
        process.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn create(&mut self) -> Answer<BatchOut> {
        let Functions::Aggregator { create, .. } = &self.functions else {
            return Err(wrong_kind(OperatorKind::Aggregator));
        };
        create.call(&mut self.store, ()).map(|(answer,)| answer)
    }

    pub(super) fn accumulate(&mut self, params: AccumulateParams<'_>) -> Answer<BatchOut> {
        let Functions::Aggregator { accumulate, .. } = &self.functions else {
            return Err(wrong_kind(OperatorKind::Aggregator));
        };
        accumulate.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn merge(&mut self, params: PairParams<'_>) -> Answer<BatchOut> {
        let Functions::Aggregator { merge, .. } = &self.functions else {
            return Err(wrong_kind(OperatorKind::Aggregator));
        };
        merge.call(&mut self.store, params).map(|(answer,)| answer)
    }

    pub(super) fn finish(&mut self, params: BatchParams<'_>) -> Answer<BatchOut> {
        let Functions::Aggregator { finish, .. } = &self.functions else {
            return Err(wrong_kind(OperatorKind::Aggregator));
        };
        finish.call(&mut self.store, params).map(|(answer,)| answer)
    }
}

impl Functions {
    fn find(instance: &Instance, store: &mut Store<State>, export: &Export) -> wasmtime::Result<Self> {
        let mut indexes = export.functions.iter(); // `describe` is first
        let mut next = || indexes.next();
        Ok(match export.kind {
            OperatorKind::Mapper => {
                Self::Mapper(function(instance, store, next())?, function(instance, store, next())?)
            }
            OperatorKind::Filter => {
                Self::Filter(function(instance, store, next())?, function(instance, store, next())?)
            }
            OperatorKind::FlatMapper => {
                Self::FlatMapper(function(instance, store, next())?, function(instance, store, next())?)
            }
            OperatorKind::Partitioner => {
                Self::Partitioner(function(instance, store, next())?, function(instance, store, next())?)
            }
            OperatorKind::Aggregator => Self::Aggregator {
                describe: function(instance, store, next())?,
                create: function(instance, store, next())?,
                accumulate: function(instance, store, next())?,
                merge: function(instance, store, next())?,
                finish: function(instance, store, next())?,
            },
            OperatorKind::Processor => Self::Processor {
                describe: function(instance, store, next())?,
                process: function(instance, store, next())?,
            },
            OperatorKind::WindowProcessor => {
                Self::WindowProcessor(function(instance, store, next())?, function(instance, store, next())?)
            }
        })
    }
}

fn function<P, R>(
    instance: &Instance,
    store: &mut Store<State>,
    index: Option<&ComponentExportIndex>,
) -> wasmtime::Result<wasmtime::component::TypedFunc<P, R>>
where
    P: wasmtime::component::ComponentNamedList + wasmtime::component::Lower,
    R: wasmtime::component::ComponentNamedList + wasmtime::component::Lift,
{
    let index = index.ok_or_else(|| wasmtime::Error::msg("the function was not found at load"))?;
    instance.get_typed_func(store, index)
}

/// A host bug that types do not rule out: `Guest` offers every function.
#[derive(Debug, thiserror::Error)]
#[error("the component is no {0}")]
pub(super) struct WrongKind(OperatorKind);

fn wrong_kind(kind: OperatorKind) -> wasmtime::Error {
    wasmtime::Error::new(WrongKind(kind))
}

/// Says in the contract's words why a call or an instantiation failed.
fn explain(error: &wasmtime::Error, state: &mut State, conditions: &Conditions, doing: &str) -> CallError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return CallError::Deadline { limit: conditions.deadline };
    }
    if let Some(wanted_bytes) = state.memory.denied_bytes {
        return CallError::Memory { wanted_bytes, limit_bytes: conditions.memory_bytes };
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return CallError::Instance { reason: format!("{}; raise the sandbox's instances_max", error.root_cause()) };
    }
    if let Some(wrong_kind) = error.downcast_ref::<WrongKind>() {
        return CallError::Internal { reason: wrong_kind.to_string() };
    }
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    if trap.is_none() && backtrace.is_none() && error.downcast_ref::<Denied>().is_none() {
        let reason = format!("{doing} it failed: {}", error.root_cause());
        return CallError::Contract { reason: host_bound(&reason, conditions).unwrap_or(reason) };
    }
    let mut reason = error.root_cause().to_string();
    let last_words = state.voice.last_words();
    if !last_words.is_empty() {
        reason = format!("{last_words} ({reason})");
    }
    CallError::Trap { reason, backtrace: backtrace.map(|backtrace| backtrace.to_string()) }
}

/// wasmtime has no type for this error, only a text, which a test pins.
fn host_bound(reason: &str, conditions: &Conditions) -> Option<String> {
    reason.contains("fuel allocated for hostcalls").then(|| {
        let limit = super::error::Size(conditions.memory_bytes as u64);
        format!("returned more than its whole memory may hold ({limit})")
    })
}

//! The component's side of the contract, for wasm32 only: generated bindings, and operators behind them.
//!
//! Each world has its bindings; all share the types of `contract`. The macros call one `export!` for the crate's operator,
//! and only that world ends in the component.

use std::any::Any;
use std::cell::OnceCell;
use std::marker::PhantomData;

use crate::contract::{Batch, Expansion, Failure, Signature, StateSchema};
use crate::migrate::MigrateOperator;
use crate::operator::{
    AggregateOperator, FilterOperator, FlatMapOperator, MapOperator, Operator, PartitionOperator, WindowProcessOperator,
};
use crate::process::ProcessOperator;
use crate::settings::{Setting, Settings};
use crate::window_process::WindowCall;
use crate::{Level, drive};

/// The bindings of one world.
macro_rules! world {
    ($module:ident, $world:literal) => {
        /// bindings of the world
        #[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit",
                world: $world,
                pub_export_macro: true,
                runtime_path: "::millstream_sdk::export::rt",
                with: {
                    "millstream:operator/types@0.1.0": crate::contract,
                },
            });
        }
    };
}

pub use wit_bindgen::rt;

world!(map, "map-operator");
world!(filter, "filter-operator");
world!(flat_map, "flat-map-operator");
world!(aggregate, "aggregate-operator");
world!(process, "process-operator");
world!(window_process, "window-process-operator");
world!(partition, "partition-operator");
world!(migrate, "state-migration");

thread_local! {
    /// the instance's operator, configured; a component has one
    static INSTANCE: OnceCell<Result<Box<dyn Any>, String>> = const { OnceCell::new() };
}

/// Calls `f` with the configured operator.
fn with_instance<O: Operator, T>(f: impl FnOnce(&O::Instance) -> T) -> Result<T, String> {
    INSTANCE.with(|cell| match cell.get_or_init(configure::<O>) {
        Ok(instance) => match instance.downcast_ref() {
            Some(instance) => Ok(f(instance)),
            None => Err("the component has more than one operator".to_owned()),
        },
        Err(reason) => Err(reason.clone()),
    })
}

fn configure<O: Operator>() -> Result<Box<dyn Any>, String> {
    // A panic is a trap, which has no message: the log gets it.
    std::panic::set_hook(Box::new(|panic| crate::log(Level::Error, &panic.to_string())));
    O::configure(&read_settings()).map(|instance| Box::new(instance) as Box<dyn Any>)
}

fn read_settings() -> Settings {
    use map::millstream::operator::config;
    let mut settings = Settings::default();
    for name in config::names() {
        let value = match config::get(&name) {
            Some(config::Setting::Boolean(value)) => Setting::Boolean(value),
            Some(config::Setting::Int64(value)) => Setting::Int64(value),
            Some(config::Setting::Float64(value)) => Setting::Float64(value),
            Some(config::Setting::Text(value)) => Setting::Text(value),
            None => continue,
        };
        settings.set(&name, value);
    }
    settings
}

fn describe<O: Operator>() -> Result<Signature, String> {
    with_instance::<O, _>(|_| O::signature())
}

/// The operator `O` as the bindings want it.
pub struct Component<O>(PhantomData<O>);

impl<O: MapOperator> map::exports::millstream::operator::mapper::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn transform(input: Batch) -> Result<Batch, Failure> {
        with_instance::<O, _>(|instance| O::transform(instance, input)).map_err(Failure::Batch)?
    }
}

impl<O: FilterOperator> filter::exports::millstream::operator::filter::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn select(input: Batch) -> Result<Vec<u8>, Failure> {
        with_instance::<O, _>(|instance| O::select(instance, input)).map_err(Failure::Batch)?
    }
}

impl<O: PartitionOperator> partition::exports::millstream::operator::partitioner::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn route(input: Batch, targets: u32) -> Result<Vec<u32>, Failure> {
        with_instance::<O, _>(|instance| O::route(instance, input, targets)).map_err(Failure::Batch)?
    }
}

impl<O: FlatMapOperator> flat_map::exports::millstream::operator::flat_mapper::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn expand(input: Batch) -> Result<flat_map::exports::millstream::operator::flat_mapper::Expansion, Failure> {
        let Expansion { origin, output } =
            with_instance::<O, _>(|instance| O::expand(instance, input)).map_err(Failure::Batch)??;
        Ok(flat_map::exports::millstream::operator::flat_mapper::Expansion { origin, output })
    }
}

impl<O: AggregateOperator + 'static> aggregate::exports::millstream::operator::aggregator::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn create() -> Result<Batch, Failure> {
        with_instance::<O, _>(drive::create).map_err(Failure::Batch)
    }

    fn accumulate(groups: Vec<u32>, accumulators: Batch, input: Batch) -> Result<Batch, Failure> {
        with_instance::<O, _>(|instance| drive::accumulate(instance, &groups, &accumulators, &input))
            .map_err(Failure::Batch)?
    }

    fn merge(left: Batch, right: Batch) -> Result<Batch, Failure> {
        with_instance::<O, _>(|instance| drive::merge(instance, &left, &right)).map_err(Failure::Batch)?
    }

    fn finish(accumulators: Batch) -> Result<Batch, Failure> {
        with_instance::<O, _>(|instance| drive::finish(instance, &accumulators)).map_err(Failure::Batch)?
    }
}

/// What the bindings call the types of `process::contract`.
mod bound {
    pub(super) use super::process::exports::millstream::operator::processor::*;
}

impl<O: ProcessOperator + 'static> bound::Guest for Component<O> {
    fn describe() -> Result<bound::ProcessSignature, String> {
        let crate::ProcessSignature { inputs, second_inputs, keys, outputs, sides, state } =
            with_instance::<O, _>(|_| drive::process_signature::<O>())?;
        let sides = sides.into_iter().map(|crate::SideOutput { name, fields }| bound::SideOutput { name, fields });
        Ok(bound::ProcessSignature { inputs, second_inputs, keys, outputs, sides: sides.collect(), state })
    }

    fn process(call: bound::Call) -> Result<bound::Outcome, Failure> {
        let bound::Call { now, watermark, keys, present, state, port, groups, times, input, fired } = call;
        let fired = crate::Timers { groups: fired.groups, times: fired.times, clocks: fired.clocks };
        let call = crate::Call { now, watermark, keys, present, state, port, groups, times, input, fired };
        let crate::Outcome { present, state, origin, output, sides, deleted, set } =
            with_instance::<O, _>(|instance| drive::process(instance, &call)).map_err(Failure::Batch)??;
        let sides =
            sides.into_iter().map(|side| bound::SideRows { side: side.side, origin: side.origin, output: side.output });
        let timers =
            |timers: crate::Timers| bound::Timers { groups: timers.groups, times: timers.times, clocks: timers.clocks };
        let (deleted, set, sides) = (timers(deleted), timers(set), sides.collect());
        Ok(bound::Outcome { present, state, origin, output, sides, deleted, set })
    }
}

mod windows {
    pub(super) use super::window_process::exports::millstream::operator::window_processor::*;
}

impl<O: WindowProcessOperator> windows::Guest for Component<O> {
    fn describe() -> Result<Signature, String> {
        describe::<O>()
    }

    fn process(
        starts: Vec<i64>,
        ends: Vec<i64>,
        groups: Vec<u32>,
        times: Vec<i64>,
        input: Batch,
    ) -> Result<windows::WindowResults, Failure> {
        let call = WindowCall { starts, ends, groups, times, input };
        let Expansion { origin, output } =
            with_instance::<O, _>(|instance| O::process(instance, &call)).map_err(Failure::Batch)??;
        Ok(windows::WindowResults { origin, output })
    }
}

impl<O: Operator + MigrateOperator> migrate::exports::millstream::operator::migrator::Guest for Component<O> {
    fn sources() -> Result<Vec<StateSchema>, String> {
        with_instance::<O, _>(|_| O::sources())
    }

    fn migrate(from_version: u32, state: Batch) -> Result<Batch, Failure> {
        with_instance::<O, _>(|_| O::migrate(from_version, &state)).map_err(Failure::Batch)?
    }
}

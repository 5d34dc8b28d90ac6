//! WASI 0.2, deny-all: what language runtimes call while they start, allocate and panic is answered without any effect
//! on the world or from it; everything else traps and names the function.
//!
//! There are no files, no network, no environment and no arguments. The clock is a counter, random numbers come from a
//! seed, so a guest's results depend on its input alone. What it writes to stdout and stderr goes to the log.
//!
//! Functions are found by their names in the component that is being linked, in whatever 0.2.x version it names, and
//! answered with dynamically typed values: a component that gives such a function a type of its own gets a trap.
//! (The crate `wasmtime-wasi` would bring an async runtime, sockets and a file system only to switch them off.)

use wasmtime::StoreContextMut;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceAny, ResourceDynamic, ResourceType, Val};

use super::contract::InterfaceName;
use super::host::Output;
use super::instance::State;
use super::witness::World;

/// Bytes that a guest may write before it must ask again, and random bytes that it may ask for at once.
const CHUNK_BYTES: u64 = 64 << 10;

/// How far each reading moves the clock: time goes on, at the same pace in every run.
const CLOCK_STEP_NS: u64 = 1_000;

/// A guest called what the sandbox denies, or ended itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error("the guest called `{0}`, which the sandbox denies: operators have no files, network or environment")]
    Function(String),
    #[error("the guest ended itself with exit status {0}")]
    Exit(&'static str),
    #[error("the guest called `{0}` with arguments that WASI does not allow")]
    Arguments(String),
}

/// Clock and random numbers of one call. Every call of the same step and component sees the same, so that what a guest
/// answers does not depend on earlier calls.
#[derive(Clone, Debug)]
pub(super) struct VirtualWorld {
    clock_ns: u64,
    random: u64,
}

impl VirtualWorld {
    pub(super) fn new(step: &str, digest: &str) -> Self {
        let seed = super::Digest::of(format!("{step}\0{digest}").as_bytes());
        let random = seed.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { clock_ns: 0, random }
    }

    /// As it is now.
    pub(super) fn begin(&self) -> World {
        World { clock_ns: self.clock_ns, random: self.random }
    }

    fn now_ns(&mut self) -> u64 {
        self.clock_ns = self.clock_ns.saturating_add(CLOCK_STEP_NS);
        self.clock_ns
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl From<World> for VirtualWorld {
    fn from(World { clock_ns, random }: World) -> Self {
        Self { clock_ns, random }
    }
}

/// Resources that the sandbox itself hands out. Others exist only as types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Resource {
    InputStream = 1,
    OutputStream = 2,
    Pollable = 3,
}

/// Numbers of other resource types start here.
const OTHER_RESOURCES: u32 = 100;

/// Links all that `component` imports from `wasi:`.
pub(super) fn link(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    // One resource type can be imported under several names (`use streams.{error}`): all must be given the same type.
    let mut resources: Vec<(ResourceType, u32)> = Vec::new();
    for (import, item) in component.component_type().imports(engine) {
        let Some(name) = InterfaceName::parse(import).filter(|name| name.package.starts_with("wasi:")) else {
            continue;
        };
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let mut linked = linker.instance(import)?;
        for (export, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::Resource(resource) => {
                    let number = number_of(&mut resources, resource, export);
                    linked.resource(export, ResourceType::host_dynamic(number), |_, _| Ok(()))?;
                }
                ComponentItem::ComponentFunc(_) => link_function(&mut linked, &name, export)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn number_of(resources: &mut Vec<(ResourceType, u32)>, resource: ResourceType, name: &str) -> u32 {
    if let Some((_, number)) = resources.iter().find(|(known, _)| *known == resource) {
        return *number;
    }
    let number = match name {
        "input-stream" => Resource::InputStream as u32,
        "output-stream" => Resource::OutputStream as u32,
        "pollable" => Resource::Pollable as u32,
        _ => OTHER_RESOURCES + u32::try_from(resources.len()).unwrap_or(0),
    };
    resources.push((resource, number));
    number
}

fn link_function(
    linked: &mut LinkerInstance<'_, State>,
    interface: &InterfaceName<'_>,
    function: &str,
) -> wasmtime::Result<()> {
    let InterfaceName { package, interface, .. } = interface;
    let name = format!("{package}/{interface}.{function}");
    let answer = answer_of(&name);
    linked.func_new(function, move |mut store, _: types::ComponentFunc, params, results| {
        let Some(answer) = answer else { return Err(Denied::Function(name.clone()).into()) };
        let resources = take_resources(&mut store, params)?;
        let value = answer(store, params, &resources)?.ok_or_else(|| Denied::Arguments(name.clone()))?;
        if let Some(result) = results.first_mut() {
            *result = value;
        }
        Ok(())
    })
}

/// The resources among parameters, by what they stand for. wasmtime tracks each until it is taken out of its table:
/// a borrowed one must be before the call returns.
fn take_resources(store: &mut StoreContextMut<'_, State>, params: &[Val]) -> wasmtime::Result<Vec<u32>> {
    let mut taken = Vec::new();
    for param in params {
        let values = if let Val::List(values) = param { values } else { std::slice::from_ref(param) };
        for value in values {
            let Val::Resource(resource) = value else { continue };
            taken.push(ResourceDynamic::try_from_resource_any(*resource, &mut *store)?.rep());
        }
    }
    Ok(taken)
}

/// Computes a result from the parameters and the resources among them; `None` where they are not WASI's.
/// The value is ignored by functions without result.
type Answer = fn(StoreContextMut<'_, State>, &[Val], &[u32]) -> wasmtime::Result<Option<Val>>;

/// The answer to a function, if there is one.
fn answer_of(name: &str) -> Option<Answer> {
    let answer: Answer = match name {
        "wasi:cli/environment.get-environment"
        | "wasi:cli/environment.get-arguments"
        | "wasi:filesystem/preopens.get-directories" => |_, _, _| value(Val::List(Vec::new())),
        "wasi:cli/environment.initial-cwd"
        | "wasi:cli/environment.get-initial-cwd"
        | "wasi:cli/terminal-stdin.get-terminal-stdin"
        | "wasi:cli/terminal-stdout.get-terminal-stdout"
        | "wasi:cli/terminal-stderr.get-terminal-stderr"
        | "wasi:filesystem/types.filesystem-error-code" => |_, _, _| value(Val::Option(None)),
        "wasi:cli/exit.exit" => |_, params, _| match params.first() {
            Some(Val::Result(Ok(_))) => Err(Denied::Exit("ok").into()),
            _ => Err(Denied::Exit("error").into()),
        },
        "wasi:cli/stdin.get-stdin" => |store, _, _| resource(store, 0, Resource::InputStream),
        "wasi:cli/stdout.get-stdout" => |store, _, _| resource(store, Output::Stdout as u32, Resource::OutputStream),
        "wasi:cli/stderr.get-stderr" => |store, _, _| resource(store, Output::Stderr as u32, Resource::OutputStream),
        "wasi:io/streams.[method]output-stream.check-write" => |_, _, _| ok(Some(Val::U64(CHUNK_BYTES))),
        "wasi:io/streams.[method]output-stream.write"
        | "wasi:io/streams.[method]output-stream.blocking-write-and-flush" => write,
        "wasi:io/streams.[method]output-stream.flush" | "wasi:io/streams.[method]output-stream.blocking-flush" => {
            |_, _, _| ok(None)
        }
        "wasi:io/streams.[method]input-stream.read"
        | "wasi:io/streams.[method]input-stream.blocking-read"
        | "wasi:io/streams.[method]input-stream.skip"
        | "wasi:io/streams.[method]input-stream.blocking-skip" => {
            |_, _, _| value(Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None))))))
        }
        "wasi:io/streams.[method]input-stream.subscribe"
        | "wasi:io/streams.[method]output-stream.subscribe"
        | "wasi:clocks/monotonic-clock.subscribe-instant"
        | "wasi:clocks/monotonic-clock.subscribe-duration" => |store, _, _| resource(store, 0, Resource::Pollable),
        // virtual time has always come: a guest that sleeps does not make anyone wait
        "wasi:io/poll.[method]pollable.ready" => |_, _, _| value(Val::Bool(true)),
        "wasi:io/poll.[method]pollable.block" => |_, _, _| value(Val::Bool(true)),
        "wasi:io/poll.poll" => poll,
        "wasi:clocks/monotonic-clock.now" => |mut store, _, _| value(Val::U64(store.data_mut().world.now_ns())),
        "wasi:clocks/wall-clock.now" => |mut store, _, _| value(datetime(store.data_mut().world.now_ns())),
        "wasi:clocks/monotonic-clock.resolution" => |_, _, _| value(Val::U64(CLOCK_STEP_NS)),
        "wasi:clocks/wall-clock.resolution" => |_, _, _| value(datetime(CLOCK_STEP_NS)),
        "wasi:random/random.get-random-u64" | "wasi:random/insecure.get-insecure-random-u64" => {
            |mut store, _, _| value(Val::U64(store.data_mut().world.random()))
        }
        "wasi:random/random.get-random-bytes" | "wasi:random/insecure.get-insecure-random-bytes" => random_bytes,
        "wasi:random/insecure-seed.insecure-seed" | "wasi:random/insecure-seed.get-insecure-seed" => {
            |mut store, _, _| {
                let world = &mut store.data_mut().world;
                value(Val::Tuple(vec![Val::U64(world.random()), Val::U64(world.random())]))
            }
        }
        _ => return None,
    };
    Some(answer)
}

#[allow(clippy::unnecessary_wraps)] // the shape of `Answer`
fn value(value: Val) -> wasmtime::Result<Option<Val>> {
    Ok(Some(value))
}

fn ok(payload: Option<Val>) -> wasmtime::Result<Option<Val>> {
    value(Val::Result(Ok(payload.map(Box::new))))
}

fn resource(store: StoreContextMut<'_, State>, rep: u32, kind: Resource) -> wasmtime::Result<Option<Val>> {
    let resource: ResourceAny = ResourceDynamic::new_own(rep, kind as u32).try_into_resource_any(store)?;
    value(Val::Resource(resource))
}

fn write(mut store: StoreContextMut<'_, State>, params: &[Val], resources: &[u32]) -> wasmtime::Result<Option<Val>> {
    let ([_, Val::List(contents)], [stream]) = (params, resources) else { return Ok(None) };
    let output = if *stream == Output::Stdout as u32 { Output::Stdout } else { Output::Stderr };
    let bytes: Option<Vec<u8>> =
        contents.iter().map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None }).collect();
    let Some(bytes) = bytes else { return Ok(None) };
    store.data_mut().voice.write(output, &bytes);
    ok(None)
}

fn poll(_: StoreContextMut<'_, State>, _: &[Val], pollables: &[u32]) -> wasmtime::Result<Option<Val>> {
    let all = 0..u32::try_from(pollables.len()).unwrap_or(u32::MAX);
    value(Val::List(all.map(Val::U32).collect()))
}

fn datetime(ns: u64) -> Val {
    let nanoseconds = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
    Val::Record(vec![("seconds".into(), Val::U64(ns / 1_000_000_000)), ("nanoseconds".into(), Val::U32(nanoseconds))])
}

fn random_bytes(mut store: StoreContextMut<'_, State>, params: &[Val], _: &[u32]) -> wasmtime::Result<Option<Val>> {
    let [Val::U64(length)] = params else { return Ok(None) };
    if *length > CHUNK_BYTES {
        return Ok(None);
    }
    let world = &mut store.data_mut().world;
    let words = (0..length.div_ceil(8)).map(|_| world.random());
    let bytes = words.flat_map(u64::to_le_bytes).take(usize::try_from(*length).unwrap_or(0));
    value(Val::List(bytes.map(Val::U8).collect()))
}

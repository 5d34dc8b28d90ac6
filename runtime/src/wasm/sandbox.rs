//! The engine that all components of a process share, the thread that advances its epoch, and loading.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use wasmtime::component::{self, Linker};
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::cache::Cache;
use super::component::{Component, Origin, Parts};
use super::error::{LoadError, SandboxError};
use super::instance::{State, TABLE_ELEMENTS_MAX};
use super::{Digest, contract, host, wasi};
use crate::clock::Stopwatch;
use crate::limits;

/// Memory of a pool slot that stays mapped when its instance goes. A Rust guest's stack takes the first MiB, so less
/// than this would not save the page faults of the next instance's first call.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;

/// Core modules of a component, for sizing the pool: three or four for most languages, some thirty for Python, so the
/// average over all instances is what counts.
const CORE_INSTANCES_EACH: u32 = 8;

/// Where compiled code is kept and how many guests may live at once.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// folder for compiled components; `None` compiles at each start
    pub cache: Option<PathBuf>,
    /// guests that may live at once: one a step and task. Each takes 4 GiB of address space, not of memory.
    pub instances_max: u32,
}

impl Default for SandboxOptions {
    /// Keeps compiled code in `$XDG_CACHE_HOME/millstream`, else `~/.cache/millstream`, else nowhere; 1,000 guests.
    fn default() -> Self {
        let folder = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let cache = folder("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute()) // as the XDG specification asks
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .map(|path| path.join("millstream"));
        Self { cache, instances_max: 1_000 }
    }
}

/// What components run in. One for each process; cheap to clone.
///
/// The thread behind it ends when the last sandbox, component and guest are gone.
#[derive(Clone, Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    cache: Option<Cache>,
}

impl Sandbox {
    /// Sets up the engine and starts the thread that advances its epoch. A cache folder that cannot be used is logged
    /// and done without.
    pub fn new(options: SandboxOptions) -> Result<Self, SandboxError> {
        Self::named(options, "millstream-epoch")
    }

    /// As [`Sandbox::new`], with another name for the thread.
    pub(super) fn named(options: SandboxOptions, thread: &str) -> Result<Self, SandboxError> {
        let engine = engine(options.instances_max)?;
        advance_epoch(thread, engine.weak()).map_err(SandboxError::Thread)?;
        let cache = options.cache.and_then(|folder| match Cache::open(&folder, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(path = %folder.display(), %error, "cannot use the folder for compiled components");
                None
            }
        });
        Ok(Self { shared: Arc::new(Shared { engine, cache }) })
    }

    /// Reads a component, checks it against the contract, and compiles it or takes compiled code from the cache.
    /// Nothing of it is run. Blocks for up to seconds where it compiles: call it off the hot path.
    pub fn load(&self, path: &Path) -> Result<Component, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(read)?;
        if !metadata.is_file() {
            return Err(LoadError::NotAFile { path: path.to_owned() });
        }
        let name = path.display().to_string();
        let mut bytes =
            Vec::with_capacity(usize::try_from(metadata.len().min(limits::COMPONENT_BYTES_MAX)).unwrap_or(0));
        // the file may grow while it is read: the bound holds for what was read, not for what was promised
        let file = File::open(path).map_err(read)?;
        file.take(limits::COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
        self.load_owned(&name, bytes.into())
    }

    /// As [`Sandbox::load`]; `name` stands in messages.
    pub fn load_bytes(&self, name: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        self.load_owned(name, bytes.into())
    }

    fn load_owned(&self, name: &str, content: Arc<[u8]>) -> Result<Component, LoadError> {
        let bytes = &*content;
        check_preamble(name, bytes)?;
        let digest = Digest::of(bytes);
        let (compiled, origin) = self.compile(name, bytes, &digest)?;
        let mut imports = Vec::new();
        for (import, _) in compiled.component_type().imports(&self.shared.engine) {
            contract::check_import(name, import)?;
            imports.push(import.to_owned());
        }
        let exports = contract::find_exports(name, &compiled)?;
        let link = |error: wasmtime::Error| LoadError::Link { name: name.to_owned(), reason: format!("{error:#}") };
        // A linker of its own for each component: WASI's resource types are those that the component names.
        let mut linker: Linker<State> = Linker::new(&self.shared.engine);
        host::link(&mut linker).map_err(link)?;
        wasi::link(&mut linker, &compiled).map_err(link)?;
        let pre = linker.instantiate_pre(&compiled).map_err(link)?;
        if matches!(origin, Origin::Compiled { .. })
            && let Some(cache) = &self.shared.cache
        {
            cache.put(&digest, &compiled);
        }
        Ok(Component::new(Parts { name: name.to_owned(), digest, bytes: content, imports, exports, origin, pre }))
    }

    fn compile(&self, name: &str, bytes: &[u8], digest: &Digest) -> Result<(component::Component, Origin), LoadError> {
        let watch = Stopwatch::start();
        let Shared { engine, cache } = &*self.shared;
        if let Some(compiled) = cache.as_ref().and_then(|cache| cache.get(digest, engine)) {
            return Ok((compiled, Origin::Cached { took: watch.elapsed() }));
        }
        let compiled = component::Component::from_binary(engine, bytes)
            .map_err(|error| LoadError::Compile { name: name.to_owned(), reason: format!("{error:#}") })?;
        Ok((compiled, Origin::Compiled { took: watch.elapsed() }))
    }
}

/// Tells what is no component before the compiler has to: its messages are for people who write compilers.
fn check_preamble(name: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let name = name.to_owned();
    let size_bytes = bytes.len() as u64;
    if size_bytes > limits::COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge { name, size_bytes, size_bytes_max: limits::COMPONENT_BYTES_MAX });
    }
    if !bytes.starts_with(b"\0asm") {
        let start = bytes.get(..8).unwrap_or(bytes);
        let found = if start.is_empty() { "an empty file".into() } else { format!("`{}`", start.escape_ascii()) };
        return Err(LoadError::NotWasm { name, found });
    }
    // after the magic number: 16 bits of version, then 0 for a core module and 1 for a component
    if bytes.get(6..8) == Some(&[0, 0]) { Err(LoadError::CoreModule { name }) } else { Ok(()) }
}

/// Prefers the pooling allocator, with which instances come and go in microseconds; where the machine does not give it
/// the address space, instances are allocated one by one.
fn engine(instances_max: u32) -> Result<Engine, SandboxError> {
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances_max)));
    match Engine::new(&config) {
        Ok(engine) => return Ok(engine),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "no pool of instances, allocating them one by one"),
    }
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config).map_err(|error| SandboxError::Engine { reason: format!("{error:#}") })
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // on by default, and makes a call three times dearer; operators are synchronous
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        // the same result on every machine
        .relaxed_simd_deterministic(true);
    config
}

fn pool(instances_max: u32) -> PoolingAllocationConfig {
    let instances_max = instances_max.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(instances_max)
        .total_tables(instances_max.saturating_mul(2))
        .table_elements(TABLE_ELEMENTS_MAX)
        // bookkeeping of a component's functions; JavaScript engines have tens of thousands
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(8 << 20)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Deadlines are counted in ticks of the epoch. Holds the engine weakly, so that the thread ends when nothing runs in
/// it any more.
fn advance_epoch(thread: &str, engine: EngineWeak) -> io::Result<()> {
    thread::Builder::new().name(thread.into()).spawn(move || {
        loop {
            thread::sleep(limits::EPOCH_TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    })?;
    Ok(())
}

//! The machine that figures were seen on.

use serde::Serialize;

/// What a reader needs to know to compare.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// the processor's own name
    pub(crate) cpu: String,
    /// logical processors
    pub(crate) cores: usize,
    /// memory in GiB
    pub(crate) memory_gib: u64,
    /// operating system and kernel
    pub(crate) system: String,
}

impl Machine {
    /// This machine, as far as `/proc` tells.
    pub(crate) fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let cpus = read("/proc/cpuinfo");
        let number = |key: &str| value(&cpus, key).unwrap_or_else(|| "?".into());
        let cpu = value(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let memory_kib = value(&read("/proc/meminfo"), "MemTotal").and_then(|size| {
            let digits = size.split_whitespace().next()?;
            digits.parse::<u64>().ok()
        });
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: format!("{cpu} (family {}, model {})", number("cpu family"), number("model\t")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_kib.unwrap_or(0).div_ceil(1 << 20),
            system: format!("{} {}", std::env::consts::OS, kernel.trim()),
        }
    }
}

//! What guests may ask: `millstream:operator/host` and `config`. Everything is bounded; what exceeds a bound is dropped
//! and counted, never an error.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::abi::{LevelOut, SettingIn};
use super::contract::{PACKAGE, VERSION};
use super::instance::State;
use super::settings::{Secrets, Setting};
use crate::limits;

/// Links the two interfaces under the contract's version; wasmtime matches later patch versions to it.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut host = linker.instance(&format!("{PACKAGE}/host@{VERSION}"))?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, State>, (level, message): (LevelOut, String)| {
        store.data_mut().voice.log(level, &message);
        Ok(())
    })?;
    host.func_wrap("counter", |store: StoreContextMut<'_, State>, (name, delta): (String, u64)| {
        store.data().voice.metrics.count(&name, delta);
        Ok(())
    })?;
    host.func_wrap("gauge", |store: StoreContextMut<'_, State>, (name, value): (String, f64)| {
        store.data().voice.metrics.gauge(&name, value);
        Ok(())
    })?;
    let mut config = linker.instance(&format!("{PACKAGE}/config@{VERSION}"))?;
    config.func_wrap("get", |store: StoreContextMut<'_, State>, (name,): (String,)| {
        Ok((store.data().settings.get(&name).map(SettingIn::from),))
    })?;
    config.func_wrap("names", |store: StoreContextMut<'_, State>, (): ()| {
        Ok((store.data().settings.keys().cloned().collect::<Vec<_>>(),))
    })
}

impl From<&Setting> for SettingIn {
    fn from(setting: &Setting) -> Self {
        match setting {
            Setting::Boolean(value) => Self::Boolean(*value),
            Setting::Int64(value) => Self::Int64(*value),
            Setting::Float64(value) => Self::Float64(*value),
            Setting::Text(value) => Self::Text(value.clone()),
            Setting::Secret(secret) => Self::Text(secret.reveal().to_owned()),
        }
    }
}

/// What a guest says: its log lines, and its last words should it trap.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) step: String,
    pub(super) task: u32,
    /// number of the version, and its digest, short
    version: (u64, String),
    pub(super) metrics: std::sync::Arc<super::GuestMetrics>,
    /// never said
    pub(super) secrets: Secrets,
    /// the last error line or line on stderr since the call began: why it trapped, most likely
    last_words: String,
    /// the unfinished line on stdout and stderr
    lines: [String; 2],
}

/// Where a WASI guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

impl Voice {
    pub(super) fn new(
        step: &str,
        task: u32,
        version: (u64, String),
        metrics: std::sync::Arc<super::GuestMetrics>,
    ) -> Self {
        let step = step.to_owned();
        let secrets = Secrets::default();
        Self { step, task, version, metrics, secrets, last_words: String::new(), lines: Default::default() }
    }

    /// `host.log`
    pub(super) fn log(&mut self, level: LevelOut, message: &str) {
        let message = clean(&self.secrets.scrub(message), limits::GUEST_LOG_BYTES);
        if level == LevelOut::Error {
            self.last_words = clean(&message, limits::GUEST_REASON_BYTES);
        }
        self.emit(level, &message);
    }

    /// Bytes on stdout or stderr: each line becomes a line of the log.
    pub(super) fn write(&mut self, output: Output, bytes: &[u8]) {
        for byte_line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.lines[output as usize];
            if line.len() < limits::GUEST_LOG_BYTES {
                line.push_str(&String::from_utf8_lossy(byte_line));
            }
            if byte_line.ends_with(b"\n") {
                self.end_line(output);
            }
        }
    }

    fn end_line(&mut self, output: Output) {
        let line = std::mem::take(&mut self.lines[output as usize]);
        let line = clean(self.secrets.scrub(&line).trim_end(), limits::GUEST_LOG_BYTES);
        if line.is_empty() {
            return;
        }
        if output == Output::Stdout {
            return self.emit(LevelOut::Info, &line);
        }
        // Rust writes a panic on two lines and then how to get a backtrace
        if !line.starts_with("note: ") && self.last_words.len() < limits::GUEST_REASON_BYTES {
            let gap = if self.last_words.is_empty() { "" } else { " " };
            self.last_words = clean(&format!("{}{gap}{line}", self.last_words), limits::GUEST_REASON_BYTES);
        }
        self.emit(LevelOut::Warn, &line);
    }

    /// Forgets what was said in earlier calls.
    pub(super) fn begin_call(&mut self) {
        self.last_words.clear();
    }

    /// What the guest said last in this call.
    pub(super) fn last_words(&mut self) -> &str {
        self.end_line(Output::Stderr);
        &self.last_words
    }

    fn emit(&self, level: LevelOut, message: &str) {
        if !self.metrics.admit_log_line() {
            return;
        }
        let Self { step, task, version: (version, digest), .. } = self;
        match level {
            LevelOut::Trace => tracing::trace!(target: "millstream::guest", step, task, version, digest, "{message}"),
            LevelOut::Debug => tracing::debug!(target: "millstream::guest", step, task, version, digest, "{message}"),
            LevelOut::Info => tracing::info!(target: "millstream::guest", step, task, version, digest, "{message}"),
            LevelOut::Warn => tracing::warn!(target: "millstream::guest", step, task, version, digest, "{message}"),
            LevelOut::Error => tracing::error!(target: "millstream::guest", step, task, version, digest, "{message}"),
        }
    }
}

/// At most `bytes_max` bytes of a guest's text on one line: control characters could forge lines or drive a terminal.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        Voice::new("s", 0, (1, "d".into()), std::sync::Arc::default())
    }

    #[test]
    fn last_words_are_the_panic_of_this_call_without_the_advice() {
        let mut voice = voice();
        voice.write(Output::Stderr, b"an earlier call\n");
        voice.begin_call();
        voice.write(Output::Stdout, b"not this\n");
        voice.write(Output::Stderr, b"thread 'main' panicked at src/lib.rs:1:1:\nno \x1b[31mprice");
        voice.write(Output::Stderr, b"\nnote: run with `RUST_BACKTRACE=1`\n");
        assert_eq!(voice.last_words(), "thread 'main' panicked at src/lib.rs:1:1: no  [31mprice");
    }

    #[test]
    fn a_secret_that_a_guest_says_is_not_among_its_last_words() {
        let secret = Setting::Secret(crate::wasm::Secret::new("TOKEN"));
        let settings = std::sync::Arc::new([("token".to_owned(), secret)].into());
        let settings = crate::wasm::with_secrets(&settings, &|_| Some("hunter2hunter2".into())).unwrap();
        let mut voice = voice();
        voice.secrets = Secrets::of(&settings);
        voice.write(Output::Stderr, b"panicked: no hunter2");
        voice.write(Output::Stderr, b"hunter2 here\n");
        assert_eq!(voice.last_words(), "panicked: no [secret TOKEN] here");
        voice.log(LevelOut::Error, "hunter2hunter2");
        assert_eq!(voice.last_words(), "[secret TOKEN]");
    }

    #[test]
    fn endless_lines_and_long_messages_are_cut_at_a_character() {
        let mut voice = voice();
        for _ in 0..100 {
            voice.write(Output::Stderr, &[b'x'; 4_096]);
        }
        assert_eq!(voice.last_words().len(), limits::GUEST_REASON_BYTES);
        assert_eq!(clean("aé", 2), "a");
    }
}

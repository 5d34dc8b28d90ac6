//! Everything that people read and that is no result: lines on stderr, coloured where that is wanted, and never torn
//! apart by the status line that may stand below them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The status line, while there is one.
static STATUS: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Where a stream of text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// results
    Stdout,
    /// the rest
    Stderr,
}

impl Stream {
    /// Whether a person sees it at once.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether it may be coloured: a terminal, and neither `NO_COLOR` nor `TERM=dumb` is set.
    pub(crate) fn is_coloured(self) -> bool {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        !no_color && !dumb && self.is_terminal()
    }

    /// The ways to emphasise that this stream allows.
    pub(crate) fn paint(self) -> Paint {
        Paint { coloured: self.is_coloured() }
    }
}

/// Emphasis by escape sequences, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    coloured: bool,
}

impl Paint {
    fn with(self, code: &str, text: impl Display) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Headings and names.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// What may be overlooked.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// Success.
    pub(crate) fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// Failure.
    pub(crate) fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    /// What asks for attention.
    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// What has just changed.
    pub(crate) fn cyan(self, text: impl Display) -> String {
        self.with("36", text)
    }
}

/// A line on stderr. Whether somebody reads it is of no concern to what runs.
pub(crate) fn say(text: impl Display) {
    above_status(|| {
        let _ = writeln!(io::stderr().lock(), "{text}");
    });
}

/// A result: a line (or several) on stdout. A reader that has gone away is not an error: it has what it wanted.
pub(crate) fn result(text: impl Display) {
    above_status(|| {
        let _ = writeln!(io::stdout().lock(), "{text}");
    });
}

/// Whether the person at the terminal says yes to a question; the end of the input is no.
pub(crate) fn is_agreed(question: impl Display) -> bool {
    above_status(|| {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    });
    let mut line = String::new();
    io::stdin().read_line(&mut line).is_ok() && is_yes(&line)
}

fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_lowercase().as_str())
}

/// Runs `write` with the status line out of the way.
pub(crate) fn above_status<T>(write: impl FnOnce() -> T) -> T {
    let bar = STATUS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A line at the bottom of the terminal that is written over again and again. Gone when dropped.
#[derive(Debug)]
pub(crate) struct StatusLine(ProgressBar);

impl StatusLine {
    /// Opens it on stderr.
    pub(crate) fn open() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        *STATUS.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self(bar)
    }

    /// Shows `text`.
    pub(crate) fn show(&self, text: String) {
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        *STATUS.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// stderr for the log: every event is one write, above the status line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above_status(|| io::stderr().lock().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y", "Y\n", " yes \n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "yess", "why", "j"].into_iter().any(is_yes));
    }
}

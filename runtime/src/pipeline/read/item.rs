//! Values with a name for messages, and the tables that hold them. Every function here either gives the value or has
//! noted what is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::keys::{self, Keys};
use super::node::{Entry, Node, Value};
use crate::error::{Span, Spanned};
use crate::pipeline::duration;
use crate::pipeline::problems::{Problems, alternatives, code, listed, nearest, quote};
use crate::pipeline::size;
use crate::wasm::{Secret, Setting, Settings};

/// A value and what messages call it.
#[derive(Debug)]
pub(super) struct Item {
    /// ``source `lines` `` or `` `format` of source `lines` ``
    pub(super) what: String,
    /// where its key stands
    pub(super) key: Span,
    pub(super) node: Node,
}

impl Item {
    fn new(what: String, entry: Entry) -> Self {
        Self { what, key: entry.key.span, node: entry.node }
    }

    pub(super) fn span(&self) -> Span {
        self.node.span
    }

    fn wrong_type(&self, expected: &str, help: &str, problems: &mut Problems) {
        problems.add(
            code::WRONG_TYPE,
            self.node.span,
            format!("{} has the wrong type", self.what),
            format!("expected {expected}, found {}", self.node.value.type_name()),
            help,
        );
    }

    fn bad(&self, code: &'static str, says: &str, label: &str, help: &str, problems: &mut Problems) {
        problems.add(code, self.node.span, format!("{} {says}", self.what), label, help);
    }

    /// Text, not empty.
    pub(super) fn text(self, problems: &mut Problems) -> Option<Spanned<String>> {
        match self.node.value {
            Value::Text(text) if !text.is_empty() => Some(Spanned::new(text, self.node.span)),
            Value::Text(_) => {
                self.bad(code::BAD_VALUE, "is empty", "expected text", "", problems);
                None
            }
            _ => {
                self.wrong_type("text", "", problems);
                None
            }
        }
    }

    pub(super) fn boolean(self, problems: &mut Problems) -> Option<bool> {
        match self.node.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => {
                self.wrong_type("true or false", "", problems);
                None
            }
        }
    }

    /// An integer in the range of `T`; what the range means is checked later.
    pub(super) fn integer<T: TryFrom<i128>>(self, problems: &mut Problems) -> Option<Spanned<T>> {
        let Value::Integer(integer) = self.node.value else {
            self.wrong_type("an integer", "", problems);
            return None;
        };
        let converted = T::try_from(integer).ok().map(|value| Spanned::new(value, self.node.span));
        if converted.is_none() {
            let label = if integer < 0 { "expected 0 or more" } else { "expected a smaller number" };
            self.bad(code::BAD_VALUE, &format!("is {integer}"), label, "", problems);
        }
        converted
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&'static str, T)], problems: &mut Problems) -> Option<Spanned<T>> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let Value::Text(text) = &self.node.value else {
            self.wrong_type("text", &format!("one of: {}", listed(&names)), problems);
            return None;
        };
        let found = choices.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let help = alternatives("possible", text, &names);
            self.bad(code::UNKNOWN_VALUE, &format!("is {}", quote(text)), "not known", &help, problems);
        }
        found.map(|(_, choice)| Spanned::new(*choice, self.node.span))
    }

    /// Text or a list of texts, none empty.
    pub(super) fn texts(self, problems: &mut Problems) -> Option<Vec<Spanned<String>>> {
        let Self { what, key, node } = self;
        let nodes = match node.value {
            Value::List(nodes) => nodes,
            Value::Text(_) => vec![node],
            _ => {
                Self { what, key, node }.wrong_type("text or a list of texts", "", problems);
                return None;
            }
        };
        let count = nodes.len();
        let texts: Vec<_> = nodes
            .into_iter()
            .filter_map(|node| Self { what: format!("an entry of {what}"), key, node }.text(problems))
            .collect();
        (texts.len() == count).then_some(texts)
    }

    fn duration_with<T>(
        self,
        parse: impl Fn(&str) -> Result<T, duration::DurationError>,
        problems: &mut Problems,
    ) -> Option<Spanned<T>> {
        const HELP: &str = "write a number and a unit (d, h, m, s, ms), like `500ms`, `1.5s` or `1h30m`";
        let Value::Text(text) = &self.node.value else {
            self.wrong_type("a duration in quotes", HELP, problems);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(Spanned::new(value, self.node.span)),
            Err(error) => {
                let says = format!("is {}, which is no duration here", quote(text));
                self.bad(code::BAD_DURATION, &says, &error.to_string(), HELP, problems);
                None
            }
        }
    }

    /// A duration in whole milliseconds, possibly zero.
    pub(super) fn duration(self, problems: &mut Problems) -> Option<Duration> {
        self.duration_with(duration::parse_ms, problems).map(|ms| Duration::from_millis(ms.value))
    }

    /// A duration of at least 1 ms.
    pub(super) fn positive_duration(self, problems: &mut Problems) -> Option<Duration> {
        let what = self.what.clone();
        let ms = self.duration_with(duration::parse_ms, problems)?;
        if ms.value == 0 {
            let help = "write a duration like `500ms`, `1.5s` or `1h30m`";
            let message = format!("{what} is zero");
            problems.add(code::BAD_DURATION, ms.span, message, "expected 1ms or more", help);
            return None;
        }
        Some(Duration::from_millis(ms.value))
    }

    /// A duration with a sign, in milliseconds.
    pub(super) fn signed_duration_ms(self, problems: &mut Problems) -> Option<i64> {
        self.duration_with(duration::parse_signed_ms, problems).map(|ms| ms.value)
    }

    /// A duration to the nanosecond.
    pub(super) fn duration_ns(self, problems: &mut Problems) -> Option<u64> {
        self.duration_with(duration::parse_ns, problems).map(|ns| ns.value)
    }

    /// `"64MiB"` or a plain number of bytes.
    pub(super) fn bytes(self, problems: &mut Problems) -> Option<usize> {
        const HELP: &str = "write a whole number and a unit (B, KiB, MiB, GiB, KB, MB, GB), like `64MiB`";
        let Value::Text(text) = &self.node.value else {
            if matches!(self.node.value, Value::Integer(_)) {
                return self.integer::<usize>(problems).map(|bytes| bytes.value);
            }
            self.wrong_type("a size in quotes", HELP, problems);
            return None;
        };
        let bytes = size::parse_bytes(text);
        match bytes.and_then(|bytes| usize::try_from(bytes).map_err(|_| size::SizeError::TooLarge)) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let says = format!("is {}, which is no size", quote(text));
                self.bad(code::BAD_SIZE, &says, &error.to_string(), HELP, problems);
                None
            }
        }
    }

    /// The entries of a table whose keys are the user's own.
    pub(super) fn entries(self, help: &str, problems: &mut Problems) -> Option<Vec<(Spanned<String>, Self)>> {
        let Value::Table(entries) = self.node.value else {
            self.wrong_type("a table", help, problems);
            return None;
        };
        without_duplicates(&self.what, &entries, problems)?;
        let entries = entries.into_iter().map(|entry| {
            let what = format!("{} of {}", quote(&entry.key.value), self.what);
            (entry.key.clone(), Self::new(what, entry))
        });
        Some(entries.collect())
    }

    /// `config = { .. }`: scalars by name.
    pub(super) fn settings(self, problems: &mut Problems) -> Option<Settings> {
        let entries = self.entries("write `config = { language = \"en\" }`", problems)?;
        let count = entries.len();
        let settings: BTreeMap<String, Setting> =
            entries.into_iter().filter_map(|(key, item)| Some((key.value, item.setting(problems)?))).collect();
        (settings.len() == count).then(|| Arc::new(settings))
    }

    fn setting(self, problems: &mut Problems) -> Option<Setting> {
        match self.node.value {
            Value::Text(text) => Some(Setting::Text(text)),
            Value::Float(float) => Some(Setting::Float64(float)),
            Value::Boolean(boolean) => Some(Setting::Boolean(boolean)),
            Value::Integer(_) => self.integer(problems).map(|integer| Setting::Int64(integer.value)),
            Value::Table(_) => {
                let mut table = Table::open(self, &keys::SECRET, problems)?;
                let variable = table.required("secret", problems).and_then(|item| item.text(problems))?;
                Some(Setting::Secret(Secret::new(variable.value)))
            }
            _ => {
                let help = "guests get scalars only; write several keys, or text that the guest takes apart";
                self.wrong_type("text, a number, a boolean or `{ secret = \"VARIABLE\" }`", help, problems);
                None
            }
        }
    }

    /// `properties = { .. }`: scalars as librdkafka takes them, as text, in file order.
    pub(super) fn properties(self, problems: &mut Problems) -> Option<Vec<(String, String)>> {
        let entries = self.entries("write `properties = { \"client.id\" = \"millstream\" }`", problems)?;
        let count = entries.len();
        let properties: Vec<_> =
            entries.into_iter().filter_map(|(key, item)| Some((key.value, item.property(problems)?))).collect();
        (properties.len() == count).then_some(properties)
    }

    fn property(self, problems: &mut Problems) -> Option<String> {
        match self.node.value {
            Value::Text(text) => Some(text),
            Value::Integer(integer) => Some(integer.to_string()),
            Value::Boolean(boolean) => Some(boolean.to_string()),
            _ => {
                self.wrong_type("text, an integer or a boolean", "", problems);
                None
            }
        }
    }
}

/// A table being read. Its keys were checked when it was opened; what is taken is gone.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) what: String,
    pub(super) key: Span,
    pub(super) span: Span,
    keys: &'static Keys,
    entries: Vec<Entry>,
    /// keys that were refused
    refused: Vec<String>,
}

impl Table {
    /// Opens `item` as a table with these keys; others are reported at once.
    pub(super) fn open(item: Item, keys: &'static Keys, problems: &mut Problems) -> Option<Self> {
        let Item { what, key, node: Node { value, span } } = item;
        let Value::Table(mut entries) = value else {
            let known = keys.names();
            let help = if known.is_empty() { "write `{}`".to_owned() } else { format!("keys: {}", listed(&known)) };
            Item { what, key, node: Node { value, span } }.wrong_type("a table", &help, problems);
            return None;
        };
        without_duplicates(&what, &entries, problems)?;
        let mut refused = Vec::new();
        entries.retain(|entry| {
            let known = keys.example(&entry.key.value).is_some();
            if !known {
                refuse(&what, keys, &entry.key, problems);
                refused.push(entry.key.value.clone());
            }
            known
        });
        Some(Self { what, key, span, keys, entries, refused })
    }

    /// Takes the value of `name`.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Item> {
        debug_assert!(self.keys.example(name).is_some(), "{name} is missing in the keys of {}", self.keys.section);
        let position = self.entries.iter().position(|entry| entry.key.value == name)?;
        Some(Item::new(format!("`{name}` of {}", self.what), self.entries.remove(position)))
    }

    /// Takes the value of `name`, which has to be there.
    pub(super) fn required(&mut self, name: &'static str, problems: &mut Problems) -> Option<Item> {
        let item = self.take(name);
        if item.is_none() && !self.refused_instead_of(&[name]) {
            self.missing(name, problems);
        }
        item
    }

    /// Notes that `name` is missing.
    pub(super) fn missing(&self, name: &'static str, problems: &mut Problems) {
        problems.add(
            code::MISSING_KEY,
            self.key,
            format!("{} has no `{name}`", self.what),
            format!("expected `{name}`"),
            format!("add `{name} = {}`", self.keys.example(name).unwrap_or("..")),
        );
    }

    /// Where the key `name` stands, if it is there.
    pub(super) fn key_of(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|entry| entry.key.value == name).map(|entry| entry.key.span)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.value == name)
    }

    /// Whether a refused key stands where one of `names` should: then their absence is no second mistake.
    pub(super) fn refused_instead_of(&self, names: &[&str]) -> bool {
        self.refused.iter().any(|key| self.keys.later.contains(&key.as_str()) || nearest(key, names).is_some())
    }

    /// Takes the one of `kinds` that is there; none or several are mistakes.
    pub(super) fn take_kind(
        &mut self,
        kinds: &[&'static str],
        kind_of: &str,
        problems: &mut Problems,
    ) -> Option<(&'static str, Item)> {
        let mut found: Vec<(&'static str, Item)> =
            kinds.iter().filter_map(|&kind| self.take(kind).map(|item| (kind, item))).collect();
        found.sort_by_key(|(_, item)| item.key.start);
        let names: Vec<String> = found.iter().map(|(kind, _)| format!("`{kind}`")).collect();
        let (kind, item) = match found.len() {
            1 => found.pop()?,
            0 => {
                if !self.refused_instead_of(kinds) {
                    let help = format!("add one of: {}", listed(kinds));
                    let message = format!("{} does not say {kind_of}", self.what);
                    problems.add(code::NO_KIND, self.key, message, "expected one key for it", help);
                }
                return None;
            }
            _ => {
                let place = found.get(1).map_or(self.key, |(_, item)| item.key);
                let message = format!("{} says in several ways {kind_of}: {}", self.what, names.join(", "));
                problems.add(
                    code::SEVERAL_KINDS,
                    place,
                    message,
                    "expected one of them",
                    "keep one, remove the others",
                );
                return None;
            }
        };
        Some((kind, item))
    }
}

fn refuse(what: &str, keys: &Keys, key: &Spanned<String>, problems: &mut Problems) {
    let known = keys.names();
    let name = quote(&key.value);
    if keys.later.contains(&key.value.as_str()) {
        problems.add(
            code::NOT_AVAILABLE,
            key.span,
            format!("{name} in {what} is not available in this version"),
            "not available",
            format!("available: {}", listed(&known)),
        );
    } else if known.is_empty() {
        let message = format!("unknown key {name} in {what}");
        problems.add(code::UNKNOWN_KEY, key.span, message, "takes no keys", "write `{}`");
    } else {
        problems.add(
            code::UNKNOWN_KEY,
            key.span,
            format!("unknown key {name} in {what}"),
            "not known",
            alternatives("known keys", &key.value, &known),
        );
    }
}

/// JSON allows a key twice; of two values one would be silently lost.
fn without_duplicates(what: &str, entries: &[Entry], problems: &mut Problems) -> Option<()> {
    let mut seen = std::collections::HashSet::new();
    let mut unique = Some(());
    for entry in entries {
        if !seen.insert(&entry.key.value) {
            let message = format!("{} comes twice in {what}", quote(&entry.key.value));
            problems.add(code::DUPLICATE_KEY, entry.key.span, message, "given before", "remove one of them");
            unique = None;
        }
    }
    unique
}

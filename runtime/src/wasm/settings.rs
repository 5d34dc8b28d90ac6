//! Configuration of a step as its guest sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Bytes that a secret must have. What is shorter is found by chance in any text, and could not be kept out of it.
const SECRET_BYTES_MIN: usize = 8;

/// A scalar of `config = { .. }`.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// true or false
    Boolean(bool),
    /// integer
    Int64(i64),
    /// floating point
    Float64(f64),
    /// string
    Text(String),
    /// a string that stands in the environment, and in nothing that Millstream writes
    Secret(Secret),
}

/// All settings of a step, by name. Cheap to clone.
pub type Settings = Arc<BTreeMap<String, Setting>>;

/// `{ secret = "VARIABLE" }`: the guest gets the value of an environment variable as text. Prints without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    variable: String,
    value: Option<Arc<str>>,
}

/// A secret cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// nowhere set
    #[error("`{setting}` is the secret of environment variable `{variable}`, which is not set")]
    Missing {
        /// name of the setting
        setting: String,
        /// the variable
        variable: String,
    },
    /// could not be kept out of logs
    #[error(
        "`{setting}` is the secret of environment variable `{variable}`, which has {bytes} bytes; expected at least \
         {SECRET_BYTES_MIN}: a shorter one could be guessed, and be found in any text by chance"
    )]
    Short {
        /// name of the setting
        setting: String,
        /// the variable
        variable: String,
        /// its length
        bytes: usize,
    },
}

impl Secret {
    /// Whose value stands in the environment variable `variable`.
    pub fn new(variable: impl Into<String>) -> Self {
        Self { variable: variable.into(), value: None }
    }

    /// The environment variable.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// What the guest gets.
    pub(super) fn reveal(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.variable)
    }
}

impl From<Secret> for Setting {
    fn from(secret: Secret) -> Self {
        Self::Secret(secret)
    }
}

/// Settings with the values of their secrets, from `value_of` a variable.
pub fn with_secrets(settings: &Settings, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Settings, SecretError> {
    if !settings.values().any(|setting| matches!(setting, Setting::Secret(_))) {
        return Ok(Arc::clone(settings));
    }
    let mut known = settings.as_ref().clone();
    for (name, setting) in &mut known {
        let Setting::Secret(secret) = setting else { continue };
        let (setting, variable) = (name.clone(), secret.variable.clone());
        match value_of(&variable) {
            None => return Err(SecretError::Missing { setting, variable }),
            Some(value) if value.len() < SECRET_BYTES_MIN => {
                return Err(SecretError::Short { setting, variable, bytes: value.len() });
            }
            Some(value) => secret.value = Some(value.into()),
        }
    }
    Ok(Arc::new(known))
}

/// The secrets of a step, to be taken out of what its guests say.
#[derive(Clone, Default)]
pub struct Secrets {
    known: Vec<(String, Arc<str>)>,
}

impl Secrets {
    /// Those among `settings`.
    pub fn of(settings: &Settings) -> Self {
        let known = settings.values().filter_map(|setting| match setting {
            Setting::Secret(Secret { variable, value: Some(value) }) => Some((variable.clone(), Arc::clone(value))),
            _ => None,
        });
        Self { known: known.collect() }
    }

    /// The text with `[secret VARIABLE]` in the place of each.
    pub fn scrub(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (variable, value)| {
            if text.contains(&**value) { text.replace(&**value, &format!("[secret {variable}]")) } else { text }
        })
    }

    /// The variable of a secret whose value is among `bytes`.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let among = |value: &str| memchr::memmem::find(bytes, value.as_bytes()).is_some();
        self.known.iter().find(|(_, value)| among(value)).map(|(variable, _)| variable.as_str())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.known.iter().map(|(variable, _)| variable)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let secret = Setting::Secret(Secret::new("TOKEN"));
        Arc::new(BTreeMap::from([("token".to_owned(), secret), ("n".to_owned(), Setting::Int64(1))]))
    }

    #[test]
    fn a_secret_has_its_value_and_never_shows_it() {
        let known = with_secrets(&settings(), &|variable| (variable == "TOKEN").then(|| "hunter2hunter2".into()));
        let known = known.unwrap();
        assert!(matches!(&known["token"], Setting::Secret(secret) if secret.reveal() == "hunter2hunter2"));
        let secrets = Secrets::of(&known);
        assert_eq!(secrets.scrub("bad hunter2hunter2!"), "bad [secret TOKEN]!");
        assert_eq!((secrets.found_in(b"..hunter2hunter2"), secrets.found_in(b"hunter2")), (Some("TOKEN"), None));
        for shown in [format!("{known:?}"), format!("{secrets:?}")] {
            assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_secret_that_is_missing_or_too_short_is_refused_by_name() {
        let missing = with_secrets(&settings(), &|_| None).unwrap_err().to_string();
        assert!(missing.contains("`token`") && missing.contains("`TOKEN`, which is not set"), "{missing}");
        let short = with_secrets(&settings(), &|_| Some("1234567".into())).unwrap_err().to_string();
        assert!(short.contains("has 7 bytes; expected at least 8") && !short.contains("1234567"), "{short}");
    }
}

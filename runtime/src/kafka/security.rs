//! Encryption and authentication towards a Kafka cluster. Passwords stand in the environment or in files, never in
//! a pipeline.

#[cfg(feature = "kafka")]
use std::path::Path;

#[cfg(feature = "kafka")]
use rdkafka::config::ClientConfig;

/// `tls` and `sasl` of a Kafka source or sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaSecurity {
    /// `tls = { .. }`: connections are encrypted
    pub tls: Option<Box<Tls>>,
    /// `sasl = { .. }`: the client says who it is
    pub sasl: Option<Box<Sasl>>,
}

/// `tls = { ca = "..", cert = "..", key = "..", key_password_env = ".." }`; paths are relative to the pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `ca`: certificates (PEM) of who signs brokers; none: those that the system trusts
    pub ca: Option<String>,
    /// `cert`: the client's certificate (PEM)
    pub cert: Option<String>,
    /// `key`: its private key (PEM)
    pub key: Option<String>,
    /// `key_password_env`: the environment variable with the key's password
    pub key_password_env: Option<String>,
}

/// `sasl = { mechanism = "..", username = "..", password_env = ".." }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// `mechanism`
    pub mechanism: Mechanism,
    /// `username`
    pub username: String,
    /// `password_env` or `password_file`
    pub password: Secret,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// the password as it is: only over TLS does nobody else read it
    Plain,
    /// without sending the password
    ScramSha256,
    /// the same with a longer hash
    ScramSha512,
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// in this environment variable
    Env(String),
    /// in this file, without a line end at its end; relative to the pipeline file
    File(String),
}

impl Mechanism {
    /// All, by the name they have in pipelines and in Kafka.
    pub const ALL: [(&str, Self); 3] =
        [("PLAIN", Self::Plain), ("SCRAM-SHA-256", Self::ScramSha256), ("SCRAM-SHA-512", Self::ScramSha512)];

    /// Its name in Kafka.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

#[cfg(feature = "kafka")]
impl KafkaSecurity {
    /// Sets what librdkafka needs, or says which secret or file is missing.
    pub(crate) fn apply(&self, base: &Path, config: &mut ClientConfig) -> Result<(), String> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => return Ok(()),
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            tls.apply(base, config)?;
        }
        if let Some(sasl) = &self.sasl {
            config.set("sasl.mechanisms", sasl.mechanism.name()).set("sasl.username", &sasl.username);
            config.set("sasl.password", sasl.password.read("`sasl`", base)?);
        }
        Ok(())
    }
}

#[cfg(feature = "kafka")]
impl Tls {
    fn apply(&self, base: &Path, config: &mut ClientConfig) -> Result<(), String> {
        let files = [
            ("ca", "ssl.ca.location", &self.ca),
            ("cert", "ssl.certificate.location", &self.cert),
            ("key", "ssl.key.location", &self.key),
        ];
        for (key, property, path) in files {
            let Some(path) = path else { continue };
            let path = base.join(path);
            // librdkafka tells of a missing file in the words of OpenSSL
            std::fs::File::open(&path)
                .map_err(|error| format!("cannot read `{key}` of `tls`, `{}`: {error}", path.display()))?;
            config.set(property, path.to_string_lossy());
        }
        if let Some(variable) = &self.key_password_env {
            config.set("ssl.key.password", Secret::Env(variable.clone()).read("the key of `tls`", base)?);
        }
        Ok(())
    }
}

#[cfg(feature = "kafka")]
impl Secret {
    fn read(&self, of: &str, base: &Path) -> Result<String, String> {
        match self {
            Self::Env(variable) => match std::env::var(variable) {
                Ok(secret) if !secret.is_empty() => Ok(secret),
                Ok(_) => Err(format!("the password of {of}: the environment variable `{variable}` is empty")),
                Err(_) => Err(format!(
                    "the password of {of}: there is no environment variable `{variable}`; set it before the start"
                )),
            },
            Self::File(path) => {
                let path = base.join(path);
                let secret = std::fs::read_to_string(&path)
                    .map_err(|error| format!("the password of {of}: cannot read `{}`: {error}", path.display()))?;
                Ok(secret.strip_suffix('\n').unwrap_or(&secret).trim_end_matches('\r').to_owned())
            }
        }
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_follows_from_tls_and_sasl() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "pw\r\n").unwrap();
        std::fs::write(folder.path().join("ca.pem"), "").unwrap();
        let sasl = |password| Box::new(Sasl { mechanism: Mechanism::ScramSha512, username: "u".into(), password });
        let mut security = KafkaSecurity { tls: None, sasl: Some(sasl(Secret::File("secret".into()))) };
        let apply = |security: &KafkaSecurity| {
            let mut config = ClientConfig::new();
            security.apply(folder.path(), &mut config).map(|()| config)
        };
        let config = apply(&security).unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!((config.get("sasl.password"), config.get("sasl.mechanisms")), (Some("pw"), Some("SCRAM-SHA-512")));
        security.tls = Some(Box::new(Tls { ca: Some("ca.pem".into()), ..Tls::default() }));
        let config = apply(&security).unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert!(config.get("ssl.ca.location").unwrap().ends_with("ca.pem"));
        security.tls = Some(Box::new(Tls { cert: Some("none.pem".into()), ..Tls::default() }));
        assert!(apply(&security).unwrap_err().starts_with("cannot read `cert` of `tls`"));
        let missing = KafkaSecurity { tls: None, sasl: Some(sasl(Secret::Env("MILLSTREAM_NOT_SET".into()))) };
        assert!(apply(&missing).unwrap_err().contains("no environment variable `MILLSTREAM_NOT_SET`"));
    }
}

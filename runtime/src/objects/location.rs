//! Where files are kept, as a pipeline writes it. Pure: nothing is opened here.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///..` or a path
    Folder(PathBuf),
    /// `s3://bucket/prefix`
    S3 {
        /// the bucket
        bucket: String,
        /// without slashes at its ends; may be empty
        prefix: String,
    },
    /// `hdfs://host:port/path`
    Hdfs {
        /// host and port of the name node, or the name of a name service
        authority: String,
        /// without slashes at its ends; may be empty
        path: String,
    },
}

/// A text is no [`Location`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got `{found}`")]
pub struct LocationError {
    /// as written
    pub found: String,
    /// what should stand there
    pub expected: &'static str,
}

impl Location {
    /// What `text` names; a path without a scheme is relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, LocationError> {
        let wrong = |expected| LocationError { found: text.to_owned(), expected };
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(wrong(ANY)) } else { Ok(Self::Folder(base.join(text))) };
        };
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/').to_owned();
        if scheme != "file"
            && path.split('/').any(|part| matches!(part, "." | "..") || (part.is_empty() && !path.is_empty()))
        {
            return Err(wrong("a path without empty parts, `.` and `..`"));
        }
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::Folder(PathBuf::from(rest))),
            "file" => Err(wrong("`file:///` and a path from the root")),
            "s3" if is_bucket(first) => Ok(Self::S3 { bucket: first.to_owned(), prefix: path }),
            "s3" => Err(wrong("`s3://`, a bucket of 3 to 63 small letters, digits, `-` and `.`, and a prefix")),
            "hdfs" if is_authority(first) => Ok(Self::Hdfs { authority: first.to_owned(), path }),
            "hdfs" => Err(wrong("`hdfs://host:port/path` or `hdfs://nameservice/path`")),
            _ => Err(wrong(ANY)),
        }
    }

    /// The place `name` in this one; `name` has `/` between its parts.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let joined = |path: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match self {
            Self::Folder(path) => Self::Folder(path.join(name)),
            Self::S3 { bucket, prefix } => Self::S3 { bucket: bucket.clone(), prefix: joined(prefix) },
            Self::Hdfs { authority, path } => Self::Hdfs { authority: authority.clone(), path: joined(path) },
        }
    }

    /// The place that this one is in, and its name there; none for a bucket or root.
    pub fn split(&self) -> Option<(Self, String)> {
        let cut = |path: &str| -> Option<(String, String)> {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            (!name.is_empty()).then(|| (folder.to_owned(), name.to_owned()))
        };
        match self {
            Self::Folder(path) => {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((Self::Folder(path.parent()?.to_owned()), name))
            }
            Self::S3 { bucket, prefix } => {
                let (prefix, name) = cut(prefix)?;
                Some((Self::S3 { bucket: bucket.clone(), prefix }, name))
            }
            Self::Hdfs { authority, path } => {
                let (path, name) = cut(path)?;
                Some((Self::Hdfs { authority: authority.clone(), path }, name))
            }
        }
    }
}

const ANY: &str = "a folder, `file:///..`, `s3://bucket/prefix` or `hdfs://host:port/path`";

fn is_bucket(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (3..=63).contains(&name.len()) && name.bytes().all(fine)
}

fn is_authority(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !host.is_empty() && host.bytes().all(fine) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Hdfs { authority, path } => write!(f, "hdfs://{authority}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, LocationError> {
        Location::parse(text, Path::new("/base"))
    }

    #[test]
    fn folders_buckets_and_name_nodes_are_told_apart() {
        for (text, shown) in [
            ("state", "/base/state"),
            ("/state", "/state"),
            ("file:///var/a b", "/var/a b"),
            ("s3://bucket", "s3://bucket/"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("hdfs://host:9000/a", "hdfs://host:9000/a"),
            ("hdfs://cluster/a", "hdfs://cluster/a"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(parse("s3://bucket/a").unwrap().join("b").to_string(), "s3://bucket/a/b");
        assert_eq!(parse("s3://bucket").unwrap().join("b").to_string(), "s3://bucket/b");
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_could_stand_there() {
        for (text, word) in [
            ("", "a folder"),
            ("gs://bucket/a", "s3://"),
            ("file://state", "from the root"),
            ("s3://No_Bucket/a", "a bucket of"),
            ("s3://", "a bucket of"),
            ("s3://bucket/../a", "`..`"),
            ("s3://bucket/a//b", "empty parts"),
            ("hdfs:///a", "host:port"),
            ("hdfs://host:x/a", "host:port"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_place_splits_into_folder_and_name() {
        for text in ["s3://bucket/a/rows.json", "hdfs://host/rows.json", "/out/rows.json"] {
            let (folder, name) = parse(text).unwrap().split().unwrap();
            assert_eq!((name.as_str(), folder.join(&name).to_string()), ("rows.json", text.to_owned()));
        }
        assert_eq!(parse("s3://bucket").unwrap().split(), None);
    }
}

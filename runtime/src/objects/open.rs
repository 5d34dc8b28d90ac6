//! Opens stores; what they need beside their place comes from the environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hdfs_native_object_store::HdfsObjectStoreBuilder;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{COPY_BYTES_MAX, Kind, Location, Objects, ObjectsError};

/// Whoever asks repeats what fails and says so meanwhile: a request is not to be repeated for minutes in silence.
const RETRY_WITHIN: Duration = Duration::from_secs(10);

const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn open(location: &Location, settings: &[(&str, String)]) -> Result<Objects, ObjectsError> {
    let failed = |source| ObjectsError { action: "open", path: location.to_string(), source };
    match location {
        Location::Folder(folder) => open_folder(folder.clone()).map_err(failed),
        Location::S3 { bucket, prefix } => open_s3(location, bucket, prefix, settings).map_err(failed),
        Location::Hdfs { authority, path } => {
            let store =
                HdfsObjectStoreBuilder::new().with_url(format!("hdfs://{authority}")).build().map_err(failed)?;
            Ok(Objects {
                store: Arc::new(store),
                root: ObjectPath::from(path.as_str()),
                shown: location.to_string(),
                kind: Kind::Hdfs,
            })
        }
    }
}

fn open_folder(folder: PathBuf) -> Result<Objects, object_store::Error> {
    let broken = |error: std::io::Error| object_store::Error::Generic { store: "folder", source: error.into() };
    crate::disk::make_folder(&folder).map_err(broken)?;
    let store = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
    let shown = folder.display().to_string();
    Ok(Objects { store: Arc::new(store), root: ObjectPath::default(), shown, kind: Kind::Folder(folder) })
}

fn open_s3(
    location: &Location,
    bucket: &str,
    prefix: &str,
    settings: &[(&str, String)],
) -> Result<Objects, object_store::Error> {
    // the first to come installs it for the process; whoever comes later finds one
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: RETRY_WITHIN };
    let given = |name: &str| settings.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone());
    let allow_http = given(ALLOW_HTTP).or_else(|| std::env::var(ALLOW_HTTP).ok()).unwrap_or_default();
    let allow_http = allow_http.eq_ignore_ascii_case("true") || allow_http == "1";
    let client = ClientOptions::new().with_connect_timeout(CONNECT_WITHIN).with_allow_http(allow_http);
    let mut builder = AmazonS3Builder::from_env().with_client_options(client);
    for (name, value) in settings.iter().filter(|(name, _)| *name != ALLOW_HTTP) {
        builder = builder.with_config(name.to_ascii_lowercase().parse()?, value);
    }
    let store =
        builder.with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch).with_retry(retry).build()?;
    let kind = Kind::S3 { copy_bytes_max: COPY_BYTES_MAX };
    Ok(Objects { store: Arc::new(store), root: ObjectPath::from(prefix), shown: location.to_string(), kind })
}

//! A real S3 server (MinIO) on the loopback interface, for tests.
//!
//! Built once by `go install`, into `services/minio` of the target folder; that takes some minutes.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::server::{self, Server};

/// The user and password; nobody else reaches the server.
const USER: &str = "millstream";
const PASSWORD: &str = "millstream-tests";

const BUCKET: &str = "tests";

/// A running server; dropping it kills it and removes its data.
pub struct Minio {
    port: u16,
    _server: Server,
    folder: tempfile::TempDir,
}

impl Minio {
    /// Starts a server with a bucket.
    fn start() -> Result<Self, String> {
        let program = program()?;
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder for MinIO: {error}"))?;
        // a folder in its data is a bucket
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join(BUCKET)).map_err(|error| format!("cannot make a bucket: {error}"))?;
        let [port] = server::free_ports()?;
        let arguments = ["server", "--quiet", "--address", &format!("127.0.0.1:{port}"), &data.to_string_lossy()];
        let variables = [
            ("MINIO_ROOT_USER", USER),
            ("MINIO_ROOT_PASSWORD", PASSWORD),
            ("MINIO_UPDATE", "off"),
            ("MINIO_BROWSER", "off"),
        ];
        let server = Server::start(&program, &arguments.map(str::to_owned), &variables, folder.path())?;
        server.wait_until(|| healthy(port))?;
        Ok(Self { port, _server: server, folder })
    }

    /// The one server of this test process for `test`. Where there cannot be one, prints `SKIPPED <test>: <reason>` and
    /// answers `None`, or fails where `CI=true`.
    pub fn or_skip(test: &str) -> Result<Option<&'static Self>, String> {
        static SHARED: OnceLock<Result<Minio, String>> = OnceLock::new();
        if server::skip(test, server::missing(&[("go", "version")])?)? {
            return Ok(None);
        }
        SHARED.get_or_init(Self::start).as_ref().map(Some).map_err(String::clone)
    }

    /// A place that no other test uses.
    pub fn url(&self, about: &str) -> String {
        format!("s3://{BUCKET}/{about}-{}", server::number())
    }

    /// What `millstream` must find in its environment.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Where its data is, for messages.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn program() -> Result<PathBuf, String> {
    let folder = server::service("minio", |folder| {
        let install = ["install", "github.com/minio/minio@latest"];
        server::done(Command::new("go").args(install).env("GOBIN", folder).env_remove("GOFLAGS"))
    })?;
    Ok(folder.join("minio"))
}

fn healthy(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.write_all(b"GET /minio/health/live HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.split(' ').nth(1) == Some("200")
}

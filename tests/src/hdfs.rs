//! A real HDFS on the loopback interface, for tests: a name node and a data node in one JVM, started by the program that
//! Hadoop has for its own tests. Its jars come through Maven once, into `services/hdfs` of the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::server::{self, Server};

/// Log to standard error, warnings only.
const LOGGING: &str = "log4j.rootLogger=WARN,stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=%d %p %c{1} %m%n
";

/// A running file system; dropping it kills it and removes its data.
pub struct Hdfs {
    port: u16,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Hdfs {
    fn start() -> Result<Self, String> {
        let jars = jars()?;
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder for HDFS: {error}"))?;
        let place = folder.path();
        let log4j = place.join("log4j.properties");
        std::fs::write(&log4j, LOGGING).map_err(|error| format!("cannot write `{}`: {error}", log4j.display()))?;
        let [port, http_port] = server::free_ports()?;
        let details = place.join("details.json");
        let arguments = arguments(&jars, place, (port, http_port), &details);
        let server = Server::start(Path::new("java"), &arguments, &[], place)?;
        // written when the cluster is up
        server.wait_until(|| std::fs::metadata(&details).is_ok_and(|details| details.len() > 0))?;
        Ok(Self { port, _server: server, _folder: folder })
    }

    /// The one file system of this test process for `test`. Where there cannot be one, prints `SKIPPED <test>: <reason>` and
    /// answers `None`, or fails where `CI=true`.
    pub fn or_skip(test: &str) -> Result<Option<&'static Self>, String> {
        static SHARED: OnceLock<Result<Hdfs, String>> = OnceLock::new();
        if server::skip(test, server::missing(&[("java", "-version"), ("mvn", "--version")])?)? {
            return Ok(None);
        }
        SHARED.get_or_init(Self::start).as_ref().map(Some).map_err(String::clone)
    }

    /// A place that no other test uses.
    pub fn url(&self, about: &str) -> String {
        format!("hdfs://127.0.0.1:{}/{about}-{}", self.port, server::number())
    }

    /// What `millstream` must find in its environment.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("HADOOP_USER_NAME", user())]
    }
}

/// Who started the name node may do everything.
fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "root".to_owned())
}

fn arguments(jars: &Path, place: &Path, (port, http_port): (u16, u16), details: &Path) -> Vec<String> {
    let shown = place.display();
    let mut arguments = vec![
        "-Xmx256m".to_owned(),
        "-XX:+UseSerialGC".to_owned(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        format!("-Dlog4j.configuration=file:{shown}/log4j.properties"),
        format!("-Dtest.build.data={shown}"),
        format!("-Dhdfs.minidfs.basedir={shown}/data"),
        format!("-DHADOOP_USER_NAME={}", user()),
        "-cp".to_owned(),
        format!("{}/*", jars.display()),
        "org.apache.hadoop.test.MiniDFSClusterManager".to_owned(),
    ];
    let options = [
        "-format",
        "-datanodes",
        "1",
        "-nnport",
        &port.to_string(),
        "-httpport",
        &http_port.to_string(),
        &format!("-Dhdfs.minidfs.basedir={shown}/data"),
        "-Ddfs.replication=1",
        "-Ddfs.permissions.enabled=false",
        "-writeDetails",
        &details.to_string_lossy(),
    ];
    arguments.extend(options.map(str::to_owned));
    arguments
}

fn jars() -> Result<PathBuf, String> {
    server::service("hdfs", |folder| {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/hdfs/pom.xml");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"]).arg(pom);
        server::done(maven.arg(format!("-DoutputDirectory={}", folder.display())))
    })
}

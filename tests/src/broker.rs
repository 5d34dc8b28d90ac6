//! A real Kafka broker on the loopback interface, for tests.
//!
//! Its jars come through Maven once, into `services/kafka` of the target folder (`MILLSTREAM_SERVICES` names another
//! folder for `kafka`). Each broker has its own folder and ports. It runs under a shell that kills it when the test process
//! closes a pipe, so it never outlives the tests, however they end.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use millstream::clock::Stopwatch;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

/// A machine under load starts a JVM slowly.
const READY_WITHIN: Duration = Duration::from_secs(90);

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Names the cluster in its storage; any 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "bWlsbHN0cmVhbS10ZXN0cw";

/// Starts the broker, tells its process id, waits for the end of the pipe and kills it.
const KEEPER: &str = r#"log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!; read -r _; kill -9 $!; wait $!"#;

/// A running broker; dropping it kills it and removes its data.
pub struct Broker {
    folder: tempfile::TempDir,
    jars: PathBuf,
    port: u16,
    keeper: Mutex<Option<Child>>,
}

impl Broker {
    /// Starts a broker. `None`, with the reason on standard error, where Java or Maven is missing.
    pub fn start() -> Result<Option<Self>, String> {
        Self::start_with(|_, _| Ok(String::new()))
    }

    /// As [`Broker::start`], with further properties, of which the last counts. `properties` is given the broker's folder
    /// and its port for clients.
    pub fn start_with(properties: impl FnOnce(&Path, u16) -> Result<String, String>) -> Result<Option<Self>, String> {
        if let Some(reason) = Self::impossible()? {
            // a test that is left out must say so, also where output is captured
            let _ = writeln!(std::io::stderr(), "no Kafka broker: {reason}");
            return Ok(None);
        }
        let jars = jars()?;
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder for the broker: {error}"))?;
        let (port, controller_port) = free_ports()?;
        let further = properties(folder.path(), port)?;
        let template = include_str!("../support/kafka/server.properties")
            .replace("{port}", &port.to_string())
            .replace("{controller_port}", &controller_port.to_string())
            .replace("{data}", &folder.path().join("data").to_string_lossy());
        // the controller's port is known only here
        let further = further.replace("{controller_port}", &controller_port.to_string());
        write_file(&folder.path().join("server.properties"), &format!("{template}\n{further}"))?;
        write_file(&folder.path().join("log4j2.properties"), include_str!("../support/kafka/log4j2.properties"))?;
        let broker = Self { folder, jars, port, keeper: Mutex::new(None) };
        broker.format()?;
        broker.run()?;
        Ok(Some(broker))
    }

    /// The one broker of this test process; `None` where there cannot be one.
    pub fn shared() -> Result<Option<&'static Self>, String> {
        static SHARED: OnceLock<Result<Option<Broker>, String>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map(Option::as_ref).map_err(String::clone)
    }

    /// The shared broker for `test`. Where there cannot be one, prints `SKIPPED <test>: <reason>` and answers `None`, or
    /// fails where `CI=true` says that nothing may be left out.
    pub fn or_skip(test: &str) -> Result<Option<&'static Self>, String> {
        if let Some(reason) = Self::impossible()? {
            if std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1") {
                return Err(format!("{test} must run where CI is set, but {reason}"));
            }
            skipped(test, &reason);
            return Ok(None);
        }
        Self::shared()
    }

    /// Why there cannot be a broker on this machine.
    fn impossible() -> Result<Option<String>, String> {
        for (program, argument) in [("java", "-version"), ("mvn", "--version")] {
            if let Some(reason) = missing(program, argument)? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    /// Address for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A name that no other test uses.
    pub fn topic_name(&self, about: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{about}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a topic and waits until it can be used.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.client()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let made = admin.create_topics([&topic], &options).await.map_err(|error| error.to_string())?;
        made.into_iter().try_for_each(|made| {
            made.map(|_| ()).map_err(|(topic, error)| format!("cannot create topic `{topic}`: {error}"))
        })
    }

    /// Gives a topic more partitions: so many in all.
    pub async fn add_partitions(&self, name: &str, partitions: usize) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.client()?;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let more = NewPartitions::new(name, partitions);
        let made = admin.create_partitions([&more], &options).await.map_err(|error| error.to_string())?;
        made.into_iter().try_for_each(|made| {
            made.map(|_| ()).map_err(|(topic, error)| format!("cannot extend topic `{topic}`: {error}"))
        })
    }

    /// Removes a topic with all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.client()?;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let deleted = admin.delete_topics(&[name], &options).await.map_err(|error| error.to_string())?;
        deleted.into_iter().try_for_each(|deleted| {
            deleted.map(|_| ()).map_err(|(topic, error)| format!("cannot delete topic `{topic}`: {error}"))
        })
    }

    /// Kills the broker without warning; its data stays.
    pub fn kill9(&self) -> Result<(), String> {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut keeper) = keeper else { return Ok(()) };
        drop(keeper.stdin.take());
        keeper.wait().map(|_| ()).map_err(|error| format!("cannot wait for the broker's end: {error}"))
    }

    /// Starts the broker again on the same port and data, killing it first if it runs.
    pub fn restart(&self) -> Result<(), String> {
        self.kill9()?;
        self.run()
    }

    /// Runs a class of the broker's jars with these arguments and returns what it prints.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("java")
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", self.jars.display()), class])
            .args(arguments)
            .output()
            .map_err(|error| format!("cannot run java: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What the broker has written to its log, for messages.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn client<T: rdkafka::config::FromClientConfig>(&self) -> Result<T, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        config.create().map_err(|error| error.to_string())
    }

    /// `java` with the broker's jars and settings.
    fn java(&self, arguments: &[&str]) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut command = vec![
            "java".to_owned(),
            "-Xmx384m".to_owned(),
            "-Xshare:auto".to_owned(),
            format!("-Dlog4j2.configurationFile={folder}/log4j2.properties"),
            format!("-Dkafka.logs.dir={folder}"),
            "-cp".to_owned(),
            format!("{}/*", self.jars.display()),
        ];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command.push(format!("{folder}/server.properties"));
        command
    }

    fn format(&self) -> Result<(), String> {
        let command =
            self.java(&["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
        // options of the JVM must stand before the class
        let (program, arguments) = command.split_first().ok_or("no command")?;
        let output =
            Command::new(program).args(arguments).output().map_err(|error| format!("cannot run java: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("cannot format the broker's storage: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn run(&self) -> Result<(), String> {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(self.log_path())
            .args(self.java(&["kafka.Kafka"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the broker: {error}"))?;
        let stdout = keeper.stdout.take().ok_or("the broker's keeper has no output")?;
        let mut process_id = String::new();
        let told = BufReader::new(stdout).read_line(&mut process_id);
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        told.map_err(|error| format!("the broker's keeper does not answer: {error}"))?;
        self.wait_until_ready(Path::new("/proc").join(process_id.trim()))
    }

    /// Ready is who names itself in the metadata.
    fn wait_until_ready(&self, process: PathBuf) -> Result<(), String> {
        let watch = Stopwatch::start();
        let client: BaseProducer = self.client()?;
        loop {
            let asked = client.client().fetch_metadata(None, Duration::from_secs(1));
            if asked.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return Ok(());
            }
            let exited = Path::new("/proc/self").exists() && !process.join("exe").exists();
            if exited || watch.elapsed() > READY_WITHIN {
                let state = if exited { "exited" } else { "is not ready" };
                return Err(format!("the broker {state} after {:?}; its log:\n{}", watch.elapsed(), self.log()));
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// Says what `cargo xtask test` looks for in the output of a test.
#[allow(clippy::print_stdout)] // through the test harness, which knows whose output it is
fn skipped(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
}

fn missing(program: &str, argument: &str) -> Result<Option<String>, String> {
    match Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(format!("`{program}` is not installed"))),
        Err(error) => Err(format!("cannot run `{program}`: {error}")),
    }
}

/// The folder with the broker's jars, fetched if they are not there.
fn jars() -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let services = match (std::env::var_os("MILLSTREAM_SERVICES"), std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(services), _) => PathBuf::from(services),
        (None, Some(target)) => tests.with_file_name("").join(target).join("services"),
        (None, None) => tests.with_file_name("target").join("services"),
    };
    let jars = services.join("kafka");
    if jars.is_dir() {
        return Ok(jars);
    }
    fs::create_dir_all(&services).map_err(|error| format!("cannot create `{}`: {error}", services.display()))?;
    // several test processes may do so at once: each fetches for itself, the first to be done is taken
    let fetched = tempfile::tempdir_in(&services).map_err(|error| format!("cannot make a folder for jars: {error}"))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"])
        .arg(tests.join("support/kafka/pom.xml"))
        .arg(format!("-DoutputDirectory={}", fetched.path().display()))
        .output()
        .map_err(|error| format!("cannot run mvn: {error}"))?;
    if !output.status.success() {
        return Err(format!("maven cannot fetch the broker: {}", String::from_utf8_lossy(&output.stdout)));
    }
    match fs::rename(fetched.path(), &jars) {
        Ok(()) => Ok(jars),
        Err(_) if jars.is_dir() => Ok(jars),
        Err(error) => Err(format!("cannot put the jars to `{}`: {error}", jars.display())),
    }
}

/// Two ports that were free a moment ago.
pub fn free_ports() -> Result<(u16, u16), String> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"));
    let (first, second) = (bind()?, bind()?);
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    Ok((port(&first).map_err(|error| error.to_string())?, port(&second).map_err(|error| error.to_string())?))
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

//! Every key of a pipeline file. The reader accepts these and no others; `docs/pipeline.md` explains them, and a test
//! holds the two together.

/// A key and a value as one may write it, for messages that say what is missing.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

/// The keys of one kind of table.
#[derive(Debug)]
pub(super) struct Keys {
    /// the heading in `docs/pipeline.md`
    pub(super) section: &'static str,
    pub(super) known: &'static [Key],
    /// part of the design, not of this version: refused with their own message
    pub(super) later: &'static [&'static str],
}

impl Keys {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.known.iter().map(|key| key.name).collect()
    }

    pub(super) fn example(&self, name: &str) -> Option<&'static str> {
        self.known.iter().find(|key| key.name == name).map(|key| key.example)
    }
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

pub(super) const PIPELINE: Keys = Keys {
    section: "Pipeline",
    known: &[
        key("name", "\"uppercase-counts\""),
        key("parallelism", "2"),
        key("source", "{ lines = { stdin = {}, format = \"text\" } }"),
        key("step", "{ upper = { from = \"lines\", map = \"upper.wasm\" } }"),
        key("sink", "{ out = { from = \"upper\", print = {} } }"),
        key("dead_letter", "{ file = { path = \"dead.json\" } }"),
        key("checkpoint", "{ store = \"state\", interval = \"1s\" }"),
        key("restart", "{ attempts = 10 }"),
        key("state", "{ memory = \"256MiB\", spill = \"scratch\" }"),
        key("capsules", "{ folder = \"capsules\", keep = 20 }"),
    ],
    later: &[],
};

pub(super) const CHECKPOINT: Keys = Keys {
    section: "Checkpoints",
    known: &[
        key("store", "\"file:///var/lib/millstream\""),
        key("interval", "\"1s\""),
        key("retain", "3"),
        key("encrypt", "{ key_file = \"checkpoint.key\" }"),
        key("transactional_id", "\"millstream-orders\""),
        key("transaction_timeout", "\"15m\""),
    ],
    later: &[],
};

/// The keys of `encrypt` that say where the encryption keys are.
pub(super) const KEY_SOURCES: [&str; 2] = ["key_file", "key_env"];

pub(super) const ENCRYPT: Keys = Keys {
    section: "Encryption",
    known: &[key("key_file", "\"checkpoint.key\""), key("key_env", "\"CHECKPOINT_KEYS\"")],
    later: &[],
};

pub(super) const RESTART: Keys = Keys {
    section: "Restarts",
    known: &[key("attempts", "10"), key("within", "\"10m\""), key("first", "\"1s\""), key("max", "\"1m\"")],
    later: &[],
};

pub(super) const SECRET: Keys = Keys { section: "Secrets", known: &[key("secret", "\"API_TOKEN\"")], later: &[] };

pub(super) const CAPSULES: Keys = Keys {
    section: "Capsules",
    known: &[key("folder", "\"capsules\""), key("keep", "20"), key("max", "\"16MiB\"")],
    later: &[],
};

pub(super) const STATE: Keys = Keys {
    section: "State",
    known: &[key("memory", "\"256MiB\""), key("spill", "\"/var/tmp/millstream\"")],
    later: &[],
};

/// The keys of a source that say where records come from.
pub(super) const SOURCE_KINDS: [&str; 5] = ["generator", "file", "stdin", "tcp", "kafka"];

pub(super) const SOURCE: Keys = Keys {
    section: "Source",
    known: &[
        key("generator", "{ kind = \"sequence\", keys = 100 }"),
        key("file", "{ path = \"input.json\" }"),
        key("stdin", "{}"),
        key("tcp", "{ listen = \"127.0.0.1:7000\" }"),
        key("kafka", "{ brokers = \"localhost:9092\", topic = \"input\" }"),
        key("format", "\"json\""),
        key("schema", "{ auction = \"int64\", name = \"text?\" }"),
        key("event_time", "\"at\""),
        key("watermark", "{ max_out_of_orderness = \"2s\" }"),
        key("parallelism", "2"),
        key("on_error", "\"skip\""),
    ],
    later: &["http"],
};

pub(super) const GENERATOR: Keys = Keys {
    section: "Generator source",
    known: &[
        key("kind", "\"sequence\""),
        key("keys", "100"),
        key("rows", "1000"),
        key("rate", "1000"),
        key("seed", "7"),
        key("start", "0"),
        key("interval", "\"1ms\""),
    ],
    later: &[],
};

pub(super) const FILE_SOURCE: Keys =
    Keys { section: "File source", known: &[key("path", "\"input.json\""), key("header", "true")], later: &[] };

pub(super) const STDIN: Keys = Keys { section: "Stdin source", known: &[], later: &[] };

pub(super) const TCP: Keys = Keys {
    section: "TCP source",
    known: &[key("listen", "\"127.0.0.1:7000\""), key("framing", "\"lines\""), key("connections", "1")],
    later: &[],
};

pub(super) const KAFKA_SOURCE: Keys = Keys {
    section: "Kafka source",
    known: &[
        key("brokers", "\"localhost:9092\""),
        key("topic", "\"input\""),
        key("start", "\"latest\""),
        key("until", "\"end\""),
        key("discover", "\"30s\""),
        key("tls", "{ ca = \"ca.pem\" }"),
        key("sasl", "{ mechanism = \"SCRAM-SHA-256\", username = \"millstream\", password_env = \"KAFKA_PASSWORD\" }"),
        key("properties", "{ \"fetch.min.bytes\" = 1 }"),
    ],
    later: &[],
};

pub(super) const WATERMARK: Keys = Keys {
    section: "Watermark",
    known: &[
        key("max_out_of_orderness", "\"2s\""),
        key("idle_after", "\"10s\""),
        key("column", "\"reached\""),
        key("assigner", "\"assigner.wasm\""),
        key("max_drift", "\"30s\""),
    ],
    later: &[],
};

/// The keys of a step that say what is done.
pub(super) const OPERATIONS: [&str; 10] =
    ["map", "filter", "flat_map", "aggregate", "select", "top", "join", "lookup", "process", "window_process"];

pub(super) const STEP: Keys = Keys {
    section: "Step",
    known: &[
        key("from", "\"lines\""),
        key("map", "\"upper.wasm\""),
        key("filter", "\"wanted.wasm\""),
        key("flat_map", "\"words.wasm\""),
        key("select", "[\"value\"]"),
        key("key_by", "[\"value\"]"),
        key("window", "{ tumbling = \"5s\" }"),
        key("allowed_lateness", "\"1s\""),
        key("trigger", "{ every = \"1s\" }"),
        key("firing", "\"discarding\""),
        key("late", "\"late_rows\""),
        key("late_with", "\"late_prices\""),
        key("emit", "\"latest\""),
        key("aggregate", "{ count = \"count()\" }"),
        key("top", "{ n = 3, by = \"count\" }"),
        key("join", "{ with = \"persons\", on = [\"seller = id\"] }"),
        key("lookup", "{ with = \"rules\", on = [\"rule = id\"] }"),
        key("process", "\"inactivity.wasm\""),
        key("window_process", "\"median.wasm\""),
        key("with", "\"rules\""),
        key("with_key_by", "[\"id\"]"),
        key("state_ttl", "\"1h\""),
        key("side_outputs", "[\"alerts\"]"),
        key("config", "{ language = \"en\" }"),
        key("parallelism", "2"),
        key("partition", "\"rebalance\""),
        key("keep", "[\"url\"]"),
        key("on_error", "\"skip\""),
        key("limits", "{ memory = \"64MiB\", deadline = \"1s\" }"),
    ],
    later: &[],
};

pub(super) const TOP: Keys = Keys {
    section: "Top",
    known: &[key("n", "3"), key("by", "\"count\""), key("ties", "\"keep\""), key("rank", "\"rank\"")],
    later: &[],
};

pub(super) const COMPONENT: Keys = Keys {
    section: "Component",
    known: &[key("component", "\"upper.wasm\""), key("config", "{ language = \"en\" }")],
    later: &[],
};

/// The keys of a window that say of what kind it is.
pub(super) const WINDOW_KINDS: [&str; 5] = ["tumbling", "sliding", "session", "count", "global"];

pub(super) const WINDOW: Keys = Keys {
    section: "Window",
    known: &[
        key("tumbling", "\"5s\""),
        key("sliding", "\"10s\""),
        key("session", "\"10s\""),
        key("count", "100"),
        key("global", "true"),
        key("every", "\"2s\""),
        key("offset", "\"1s\""),
    ],
    later: &[],
};

pub(super) const SESSION: Keys = Keys { section: "Session", known: &[key("gap", "\"gap_ms\"")], later: &[] };

/// The keys of a trigger that say what it waits for.
pub(super) const TRIGGER_KINDS: [&str; 3] = ["count", "every", "processing_time"];

pub(super) const TRIGGER: Keys = Keys {
    section: "Trigger",
    known: &[key("count", "4"), key("every", "\"1s\""), key("processing_time", "\"1s\""), key("at_end", "true")],
    later: &[],
};

pub(super) const JOIN: Keys = Keys {
    section: "Join",
    known: &[
        key("with", "\"persons\""),
        key("on", "[\"seller = id\"]"),
        key("kind", "\"left\""),
        key("between", "[\"-10m\", \"10m\"]"),
        key("exclusive", "\"upper\""),
        key("state_ttl", "\"1h\""),
        key("prefix", "\"person_\""),
        key("select", "[\"id\", \"name\"]"),
    ],
    later: &[],
};

pub(super) const LOOKUP: Keys = Keys {
    section: "Lookup",
    known: &[
        key("with", "\"rules\""),
        key("on", "[\"rule = id\"]"),
        key("kind", "\"left\""),
        key("prefix", "\"rule_\""),
        key("select", "[\"id\", \"name\"]"),
    ],
    later: &[],
};

pub(super) const PARTITION: Keys = Keys {
    section: "Partition",
    known: &[
        key("key", "[\"customer\"]"),
        key("hash", "\"row\""),
        key("range", "{ column = \"price\", splits = [10, 100] }"),
        key("custom", "\"router.wasm\""),
    ],
    later: &[],
};

pub(super) const RANGE: Keys = Keys {
    section: "Range",
    known: &[key("column", "\"price\""), key("splits", "[10, 100]"), key("sample", "1000"), key("every", "\"10s\"")],
    later: &[],
};

pub(super) const LIMITS: Keys =
    Keys { section: "Limits", known: &[key("memory", "\"64MiB\""), key("deadline", "\"1s\"")], later: &[] };

/// The keys of a sink that say where rows go.
pub(super) const SINK_KINDS: [&str; 5] = ["print", "discard", "file", "object", "kafka"];

pub(super) const SINK: Keys = Keys {
    section: "Sink",
    known: &[
        key("from", "\"counts\""),
        key("print", "{}"),
        key("discard", "{}"),
        key("file", "{ path = \"output.json\" }"),
        key("object", "{ url = \"s3://bucket/output.json\" }"),
        key("kafka", "{ brokers = \"localhost:9092\", topic = \"output\" }"),
        key("format", "\"json\""),
        key("parallelism", "1"),
    ],
    later: &["http", "elasticsearch", "hbase"],
};

pub(super) const EMPTY_SINK: Keys = Keys { section: "Print and discard sinks", known: &[], later: &[] };

pub(super) const FILE_SINK: Keys = Keys { section: "File sink", known: &[key("path", "\"output.json\"")], later: &[] };

pub(super) const OBJECT_SINK: Keys = Keys {
    section: "Object sink",
    known: &[key("url", "\"s3://bucket/output.json\""), key("roll", "\"64MiB\"")],
    later: &[],
};

pub(super) const KAFKA_SINK: Keys = Keys {
    section: "Kafka sink",
    known: &[
        key("brokers", "\"localhost:9092\""),
        key("topic", "\"output\""),
        key("key", "\"customer\""),
        key("tls", "{ ca = \"ca.pem\" }"),
        key("sasl", "{ mechanism = \"SCRAM-SHA-256\", username = \"millstream\", password_env = \"KAFKA_PASSWORD\" }"),
        key("properties", "{ \"linger.ms\" = 5 }"),
    ],
    later: &[],
};

pub(super) const TLS: Keys = Keys {
    section: "TLS",
    known: &[
        key("ca", "\"ca.pem\""),
        key("cert", "\"client.pem\""),
        key("key", "\"client-key.pem\""),
        key("key_password_env", "\"KEY_PASSWORD\""),
    ],
    later: &[],
};

pub(super) const SASL: Keys = Keys {
    section: "SASL",
    known: &[
        key("mechanism", "\"SCRAM-SHA-256\""),
        key("username", "\"millstream\""),
        key("password_env", "\"KAFKA_PASSWORD\""),
        key("password_file", "\"kafka-password\""),
    ],
    later: &[],
};

pub(super) const DEAD_LETTER: Keys = Keys {
    section: "Dead letters",
    known: &[
        key("file", "{ path = \"dead.json\" }"),
        key("object", "{ url = \"s3://bucket/dead.json\" }"),
        key("kafka", "{ brokers = \"localhost:9092\", topic = \"dead\" }"),
        key("discard", "{}"),
        key("print", "{}"),
    ],
    later: &[],
};

/// Formats of the design that this version does not have.
pub(super) const FORMATS_LATER: [&str; 1] = ["avro"];

/// Every table, for the test against the documentation.
#[cfg(test)]
pub(super) const ALL: [&Keys; 33] = [
    &PIPELINE,
    &CHECKPOINT,
    &ENCRYPT,
    &RESTART,
    &STATE,
    &CAPSULES,
    &SECRET,
    &SOURCE,
    &GENERATOR,
    &FILE_SOURCE,
    &STDIN,
    &TCP,
    &KAFKA_SOURCE,
    &WATERMARK,
    &STEP,
    &TOP,
    &COMPONENT,
    &WINDOW,
    &SESSION,
    &TRIGGER,
    &JOIN,
    &LOOKUP,
    &PARTITION,
    &RANGE,
    &LIMITS,
    &SINK,
    &EMPTY_SINK,
    &FILE_SINK,
    &OBJECT_SINK,
    &KAFKA_SINK,
    &TLS,
    &SASL,
    &DEAD_LETTER,
];

//! TLS and SASL, against a broker with listeners for both.

use std::path::Path;

use millstream::kafka::{Mechanism, Sasl, Secret, Tls};
use millstream_tests::broker::free_ports;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

struct Secured {
    broker: Broker,
    tls: String,
    sasl: String,
    folder: tempfile::TempDir,
}

/// An authority, and a key with a certificate of it for this machine.
fn certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(
        folder.join("store.pem"),
        format!("{}{}{}", key.serialize_pem(), certificate.pem(), authority.pem()),
    )
    .unwrap();
}

fn secured() -> Option<Secured> {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    certificates(&other);
    let (tls, sasl) = free_ports().unwrap();
    let at = folder.path().display().to_string();
    let broker = Broker::start_with(|_, port| {
        Ok(format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{{controller_port}}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             ssl.keystore.type=PEM\nssl.keystore.location={at}/store.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={at}/ca.pem\n\
             sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_bob=\"bob's\";\n"
        ))
    });
    let broker = broker.unwrap()?;
    let add = "SCRAM-SHA-256=[iterations=4096,password=alice's]";
    let arguments = ["--bootstrap-server", &broker.bootstrap(), "--alter", "--add-config", add];
    let user = ["--entity-type", "users", "--entity-name", "alice"];
    broker.tool("kafka.admin.ConfigCommand", &[&arguments[..], &user[..]].concat()).unwrap();
    std::fs::write(folder.path().join("alice"), "alice's\n").unwrap();
    std::fs::write(folder.path().join("bob"), "bob's").unwrap();
    std::fs::write(folder.path().join("wrong"), "wrong").unwrap();
    Some(Secured { broker, tls: format!("127.0.0.1:{tls}"), sasl: format!("127.0.0.1:{sasl}"), folder })
}

impl Secured {
    fn security(ca: Option<&str>, sasl: Option<(Mechanism, &str, &str)>) -> KafkaSecurity {
        let tls = ca.map(|ca| Tls { ca: Some(ca.to_owned()), ..Tls::default() });
        let sasl = sasl.map(|(mechanism, username, file)| Sasl {
            mechanism,
            username: username.to_owned(),
            password: Secret::File(file.to_owned()),
        });
        KafkaSecurity { tls: tls.map(Box::new), sasl: sasl.map(Box::new) }
    }

    /// Writes a row through a sink and reads it through a source.
    async fn round_trip(&self, brokers: &str, security: KafkaSecurity) -> Result<(), String> {
        let topic = self.broker.topic_name("secured");
        self.broker.create_topic(&topic, 1).await?;
        let kind = SinkKind::Kafka(KafkaSinkSpec {
            brokers: brokers.to_owned(),
            topic: topic.clone(),
            key: None,
            security: security.clone(),
            properties: Vec::new(),
        });
        let base = self.folder.path().to_owned();
        let context_out = SinkContext { base: base.clone(), ..sink_context(Format::Text, &["value"]) };
        let mut out = sink::open(&kind, context_out.clone()).await.map_err(|error| error.to_string())?;
        out.write(&text_batch(&context_out.schema, &[vec!["hidden".into()]], vec![NO_EVENT_TIME])).await.unwrap();
        out.finish().await.unwrap();
        let spec = KafkaSourceSpec { brokers: brokers.to_owned(), security, ..spec(&self.broker, &topic) };
        let context_in = SourceContext { base, ..context(Format::Text) };
        let opened = source::open(&SourceKind::Kafka(spec), context_in).await;
        let told = read_to_end(&mut *opened.map_err(|error| error.to_string())?).await;
        assert_eq!(told.of_partition(0), ["hidden"]);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_and_authenticated_brokers_are_reached_and_wrong_secrets_are_named() {
    let Some(secured) = secured() else { return };
    let (ca, scram, plain) = (Some("ca.pem"), Mechanism::ScramSha256, Mechanism::Plain);
    secured.round_trip(&secured.tls, Secured::security(ca, None)).await.unwrap();
    secured.round_trip(&secured.sasl, Secured::security(ca, Some((scram, "alice", "alice")))).await.unwrap();
    secured.round_trip(&secured.sasl, Secured::security(ca, Some((plain, "bob", "bob")))).await.unwrap();

    let wrong: [(&str, KafkaSecurity, &[&str]); 5] = [
        (&secured.tls, Secured::security(Some("other/ca.pem"), None), &["certificate", "`ca` of `tls`"]),
        (&secured.sasl, Secured::security(ca, Some((scram, "alice", "wrong"))), &["check `username`, password"]),
        (&secured.sasl, Secured::security(ca, Some((plain, "bob", "wrong"))), &["check `username`, password"]),
        (&secured.sasl, Secured::security(ca, Some((scram, "alice", "none"))), &["password of `sasl`", "cannot read"]),
        (&secured.tls, Secured::security(Some("none.pem"), None), &["cannot read `ca` of `tls`"]),
    ];
    for (brokers, security, words) in wrong {
        let watch = Stopwatch::start();
        let error = secured.round_trip(brokers, security.clone()).await.unwrap_err();
        for word in words {
            assert!(error.contains(word), "`{word}` in {error}");
        }
        assert!(!error.contains("alice's") && !error.contains("bob's"), "{error}");
        assert!(watch.elapsed() < Duration::from_secs(9), "{error} after {:?}", watch.elapsed());
    }
}

//! `tls = { .. }` and `sasl = { .. }` of Kafka sources and sinks

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use crate::kafka::{KafkaSecurity, Mechanism, Sasl, Secret, Tls};
use crate::pipeline::problems::{Problems, code};

/// Takes both keys from the table of a source or sink.
pub(super) fn read_security(table: &mut Table, problems: &mut Problems) -> Option<KafkaSecurity> {
    let tls = optional(table.take("tls"), |item| read_tls(item, problems));
    let sasl = optional(table.take("sasl"), |item| read_sasl(item, problems));
    Some(KafkaSecurity { tls: tls?.map(Box::new), sasl: sasl?.map(Box::new) })
}

fn read_tls(item: Item, problems: &mut Problems) -> Option<Tls> {
    let mut table = Table::open(item, &keys::TLS, problems)?;
    let (key_place, of) = (table.span, table.what.clone());
    let mut text = |key| optional(table.take(key), |item| item.text(problems));
    let (ca, cert, key, password) = (text("ca"), text("cert"), text("key"), text("key_password_env"));
    let value = |item: Option<crate::error::Spanned<String>>| item.map(|item| item.value);
    let tls = Tls { ca: value(ca?), cert: value(cert?), key: value(key?), key_password_env: value(password?) };
    if tls.cert.is_some() != tls.key.is_some() || (tls.key_password_env.is_some() && tls.key.is_none()) {
        let message = format!("{of} has only a part of the client's own certificate");
        let help = "write both `cert` and `key`; leave them out where the broker asks for no certificate";
        problems.add(code::MISSING_KEY, key_place, message, "expected `cert` and `key`", help);
        return None;
    }
    Some(tls)
}

fn read_sasl(item: Item, problems: &mut Problems) -> Option<Sasl> {
    let mut table = Table::open(item, &keys::SASL, problems)?;
    let (place, of) = (table.span, table.what.clone());
    let mechanism = table.required("mechanism", problems).and_then(|item| item.choice(&Mechanism::ALL, problems));
    let username = table.required("username", problems).and_then(|item| item.text(problems));
    let variable = optional(table.take("password_env"), |item| item.text(problems));
    let file = optional(table.take("password_file"), |item| item.text(problems));
    let password = match (variable?, file?) {
        (Some(variable), None) => Secret::Env(variable.value),
        (None, Some(file)) => Secret::File(file.value),
        // the key was meant for one of them, which has been told
        (None, None) if table.refused_instead_of(&["password_env", "password_file"]) => return None,
        (variable, _) => {
            let (code, says) = match variable {
                Some(_) => (code::CONFLICT, "has two passwords"),
                None => (code::MISSING_KEY, "has no password"),
            };
            let help = "write `password_env = \"KAFKA_PASSWORD\"` or `password_file = \"kafka-password\"`";
            let label = "expected one of `password_env` and `password_file`";
            problems.add(code, place, format!("{of} {says}"), label, help);
            return None;
        }
    };
    Some(Sasl { mechanism: mechanism?.value, username: username?.value, password })
}

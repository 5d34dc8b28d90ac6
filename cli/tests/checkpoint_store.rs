//! What lies in a store of checkpoints, as a person or a script meets it who has only the commands: listed, verified, looked into,
//! damaged, and gone on from by a pipeline that is not what it was.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::process::Stdio;

use serde_json::Value;
use support::Folder;

/// Sums by key, five checkpoints, killed behind the last.
const SUMS: &str = r#"
name = "sums"
checkpoint = { store = "state", interval = "20ms", retain = 3 }
[source.rows]
generator = { kind = "sequence", keys = 40, rate = 24_000 }
[step.sums]
from = "rows"
key_by = ["key"]
aggregate = { n = "count()", total = "sum(amount)" }
[sink.out]
from = "sums"
discard = {}
"#;

fn killed() -> Folder {
    let folder = Folder::new();
    folder.write("pipeline.toml", SUMS);
    run_until(&folder, "after-commit:6");
    folder
}

fn run_until(folder: &Folder, point: &str) {
    let mut command = folder.command(&["run", "pipeline.toml"]);
    command.env("MILLSTREAM_FAILPOINT", point).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), None, "{point} was not reached");
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn machines_read_checkpoints_savepoints_tables_and_what_is_wrong_with_them() {
    let folder = killed();
    let saved = folder.run(&["checkpoint", "savepoint", "pipeline.toml", "keep", "--epoch", "5", "--json"]).expect(0);
    let saved = &lines(&saved.stdout)[0];
    assert_eq!((&saved["kind"], &saved["name"], &saved["epoch"]), (&"savepoint".into(), &"keep".into(), &5.into()));
    std::fs::remove_file(folder.path("state/sums/0000000005/manifest")).unwrap();

    let listed = lines(&folder.run(&["checkpoint", "ls", "pipeline.toml", "--json"]).expect(0).stdout);
    let told: Vec<_> =
        listed.iter().map(|one| (one["kind"].as_str().unwrap(), one["epoch"].as_u64().unwrap())).collect();
    assert_eq!(told, [("checkpoint", 6), ("checkpoint", 5), ("checkpoint", 4), ("checkpoint", 3), ("savepoint", 5)]);
    assert_eq!((&listed[0]["committed"], &listed[4]["name"]), (&false.into(), &"keep".into()));
    assert!(listed[0]["state_bytes"].as_u64().unwrap() > 100 && listed[1].get("state_bytes").is_none());
    assert!(listed[1]["error"].as_str().unwrap().contains("0000000005/manifest` is missing"), "{}", listed[1]);

    let verified = folder.run(&["checkpoint", "verify", "pipeline.toml", "--json"]).expect(3);
    let verdicts: Vec<_> =
        lines(&verified.stdout).iter().map(|one| one["verdict"].as_str().unwrap().to_owned()).collect();
    assert_eq!(verdicts, ["whole", "damaged", "whole", "whole", "whole"]);
    assert_eq!(lines(&verified.stderr)[0]["message"], "1 of 5 are damaged");

    let shown = lines(&folder.run(&["checkpoint", "show", "pipeline.toml", "--json"]).expect(0).stdout);
    assert_eq!((&shown[0]["kind"], &shown[0]["epoch"]), (&"checkpoint".into(), &6.into()));
    let tables = lines(&folder.run(&["state", "ls", "pipeline.toml", "keep", "--json"]).expect(0).stdout);
    assert_eq!(
        (&tables[0]["step"], &tables[0]["rows"], &tables[0]["columns"][0]),
        (&"sums".into(), &40.into(), &"key".into())
    );
    let wrong = folder.run(&["state", "get", "pipeline.toml", "sum", "key=1", "--json"]).expect(2);
    assert!(lines(&wrong.stderr)[0]["message"].as_str().unwrap().contains("state is of: sums"), "{wrong:?}");
}

#[test]
fn the_newest_checkpoint_is_not_another_where_it_cannot_be_read() {
    let folder = killed();
    let manifest = folder.path("state/sums/0000000006/manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    for command in [&["state", "ls"][..], &["checkpoint", "show"], &["checkpoint", "savepoint"]] {
        let name = if command[1] == "savepoint" { &["kept"][..] } else { &[] };
        let output = folder.run(&[command, &["pipeline.toml"], name].concat()).expect(1);
        output.says(&["checkpoint 6: its manifest"]);
    }
    folder.run(&["checkpoint", "show", "pipeline.toml", "5"]).expect(0);
    let verified = folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(3).stdout;
    assert!(verified.contains("checkpoint 6: its manifest"), "{verified}");
}

#[test]
fn state_of_lists_and_of_joins_is_shown_as_json_too() {
    let folder = Folder::new();
    let steps = "[step.sums]\nfrom = \"rows\"\nkey_by = [\"key\"]\naggregate = { n = \"count_distinct(amount)\" }\n\
                 [step.both]\nfrom = \"rows\"\njoin = { with = \"sums\", on = [\"key = key\"], prefix = \"r_\" }\nwindow = \
                 { tumbling = \"10s\" }\n[sink.joined]\nfrom = \"both\"\ndiscard = {}\n[sink.out]";
    let (before, after) = (SUMS.find("[step.sums]").unwrap(), SUMS.find("[sink.out]").unwrap());
    folder.write("pipeline.toml", format!("{}{steps}{}", &SUMS[..before], &SUMS[after + "[sink.out]".len()..]));
    run_until(&folder, "after-commit:6");
    let sums = lines(&folder.run(&["state", "get", "pipeline.toml", "sums", "key=7"]).expect(0).stdout);
    let values = sums[0].as_object().unwrap().values().filter_map(Value::as_str).find(|value| value.starts_with('['));
    let values: Vec<i64> = serde_json::from_str(values.unwrap()).unwrap();
    assert!(!values.is_empty() && values.is_sorted(), "{values:?}");
    let rows = folder.run(&["state", "export", "--step", "both", "pipeline.toml"]).expect(0).stdout;
    let row = rows.lines().find(|row| row.contains("\"amount\"")).unwrap();
    assert_eq!(row.matches("\"key\":").count(), 1, "{row}");
    assert!(lines(&rows).iter().all(|row| row.get("key") == row.get("_key").or(row.get("key"))), "{rows}");
}

#[test]
fn a_manifest_that_has_gone_is_told_and_an_older_checkpoint_is_gone_on_from() {
    let folder = killed();
    // all sinks have shown 5, as the folder says
    std::fs::remove_dir_all(folder.path("state/sums/0000000006")).unwrap();
    std::fs::remove_file(folder.path("state/sums/0000000005/manifest")).unwrap();
    let listed = folder.run(&["checkpoint", "ls", "pipeline.toml"]).expect(0).stdout;
    assert!(listed.contains("checkpoint 5: its manifest"), "{listed}");
    let verified = folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(3).stdout;
    assert!(
        verified.contains("checkpoint 5: its manifest") && !verified.contains("checkpoint 5: checkpoint"),
        "{verified}"
    );
    let mut command = folder.command(&["run", "pipeline.toml"]);
    let output = command.env("MILLSTREAM_FAILPOINT", "cut:1").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("checkpoint 5 is passed over: its manifest") && said.contains("from checkpoint 4"), "{said}");
}

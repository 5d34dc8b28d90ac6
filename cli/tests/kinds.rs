//! A step that becomes another kind of step between two runs does not read the state of the first as its own.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use support::{Folder, From};

fn pairs(when: &str) -> String {
    format!(
        r#"
name = "pairs"
checkpoint = {{ store = "state", interval = "50ms" }}
[source.left]
generator = {{ kind = "sequence", rate = 200, keys = 1000 }}
[source.right]
generator = {{ kind = "sequence", rate = 200, keys = 1000 }}
[step.pairs]
from = "left"
{when}
[sink.out]
from = "pairs"
file = {{ path = "out/rows.json" }}
"#
    )
}

#[test]
fn an_interval_join_that_becomes_a_window_join_is_refused_at_a_start_and_at_an_apply() {
    let folder = Folder::new();
    let between = pairs("join = { with = \"right\", on = [\"key\"], between = [\"-1h\", \"1h\"], prefix = \"r_\" }");
    let window = pairs("join = { with = \"right\", on = [\"key\"], prefix = \"r_\" }\nwindow = { tumbling = \"1h\" }");
    folder.write("between.toml", &between).write("window.toml", &window);
    let mut process = folder.start(&["run", "between.toml", "--status-interval", "20ms"]);
    process.wait_until(From::Stderr, "rows", |line| line.contains("pairs · ") && !line.contains(" 0 read"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let apply = folder.run(&["apply", "window.toml"]).expect(2);
    apply.says(&["state would be lost", "step `pairs`: join.when", "`--approve pairs`"]);
    process.signal("TERM");
    process.finish().expect(0);

    let refused = folder.run(&["run", "window.toml"]).expect(1);
    refused.says(&[
        "holds state of step `pairs` as a join of times between bounds, and a join over tumbling windows cannot read it",
        "--fresh",
    ]);
    let mut process = folder.start(&["run", "between.toml", "--status-interval", "20ms"]);
    process.wait_for(From::Stderr, "restored from checkpoint");
    process.signal("TERM");
    process.finish().expect(0);
}

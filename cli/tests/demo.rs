//! The demo verifies itself; here it is only run, and told wrong things.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use support::{Folder, guest};

#[test]
fn the_demo_swaps_an_operator_and_accounts_for_every_row() {
    let guests = guest("segment.wasm").parent().unwrap().display().to_string();
    let output = Folder::new().run(&["demo", "--guests", &guests, "--seconds", "5", "--plain"]).expect(0);
    for part in [
        "segment-finer.wasm takes the place of segment.wasm, while rows flow",
        "── swapped",
        "verified",
        "nothing lost, nothing doubled",
    ] {
        assert!(output.stdout.contains(part), "`{part}` is missing in:\n{}", output.stdout);
    }
    assert!(output.stdout.contains("from there by the new"), "{}", output.stdout);
    assert!(output.stderr.contains("rows a second: visits "), "{}", output.stderr);
    assert!(!output.stdout.contains('\x1b'));
}

#[test]
fn without_components_the_demo_says_how_to_build_them() {
    let folder = Folder::new();
    folder.run(&["demo", "--guests", "."]).expect(2).says(&["segment-finer.wasm", "cargo xtask guests"]);
}

//! Holds `docs/pipeline.md` and the reader together.

use super::tests::parse_text;
use super::{code, keys};
use crate::pipeline::problems::code::{MISSING_KEY, NO_SINK, NO_SOURCE, UNKNOWN_INPUT, UNUSED};

const PAGE: &str = include_str!("../../../../docs/pipeline.md");

/// The text under a heading, without its subsections.
fn section(heading: &str) -> &'static str {
    let start = PAGE.lines().find(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading);
    let start = start.unwrap_or_else(|| panic!("docs/pipeline.md has no section {heading:?}"));
    let body = &PAGE[start.as_ptr() as usize - PAGE.as_ptr() as usize + start.len()..];
    body.find("\n#").map_or(body, |end| &body[..end])
}

/// The first cells of a section's table.
fn first_cells(section: &str) -> Vec<&str> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(cell, _)| cell)).collect()
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_read() {
    for table in keys::ALL {
        let section = section(table.section);
        assert_eq!(first_cells(section), table.names(), "keys of {:?} in docs/pipeline.md", table.section);
        let not_yet = section.lines().find(|line| line.starts_with("Not in this version")).unwrap_or_default();
        for key in table.later {
            assert!(not_yet.contains(&format!("`{key}`")), "{key} of {:?} is said to come later", table.section);
        }
    }
    for format in keys::FORMATS_LATER {
        assert!(section("Source").contains(&format!("`{format}`")), "{format}");
    }
}

#[test]
fn every_code_is_documented() {
    assert_eq!(first_cells(section("Codes of mistakes")), code::ALL);
}

#[test]
fn every_documented_example_is_read() {
    let examples: Vec<&str> = PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 15, "examples are found");
    for example in examples {
        let Err(error) = parse_text(example) else { continue };
        for diagnostic in &error.diagnostics {
            // examples of one table lack the rest of a pipeline
            let partial = [NO_SOURCE, NO_SINK, UNKNOWN_INPUT, UNUSED].contains(&diagnostic.code)
                || diagnostic.code == MISSING_KEY && diagnostic.message == "the pipeline has no `name`";
            assert!(partial && !example.starts_with("name"), "{example}\n{error}");
        }
    }
}

#[test]
fn every_example_of_a_missing_key_is_toml() {
    for key in keys::ALL.iter().flat_map(|table| table.known) {
        let text = format!("{} = {}", key.name, key.example);
        assert!(toml::de::DeTable::parse(&text).is_ok(), "{text}");
    }
}

//! The command line.

use crate::measure::Failed;

const USAGE: &str = "usage: cargo xtask bench [--quick] [--filter TEXT] [--json] [--kafka HOST:PORT]";

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// fewer rows and rounds: shows that everything runs, figures are rough
    pub(crate) quick: bool,
    /// only groups whose name contains this
    pub(crate) filter: Option<String>,
    /// one JSON object on stdout in place of tables
    pub(crate) json: bool,
    /// a broker to write to and read from; without one a throw-away broker is started
    pub(crate) kafka: Option<String>,
}

impl Arguments {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, Failed> {
        let mut arguments = Self::default();
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = true,
                "--filter" => arguments.filter = Some(value()?),
                "--kafka" => arguments.kafka = Some(value()?),
                "--help" | "-h" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown argument `{argument}`\n{USAGE}")),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_come_in_any_order() {
        let arguments = parse("--json --filter map --quick").expect("fine arguments");
        assert!(arguments.json && arguments.quick);
        assert_eq!(arguments.filter.as_deref(), Some("map"));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(parse("--fast").expect_err("not an option").contains("`--fast`"));
        assert!(parse("--filter").expect_err("no value").contains("needs a value"));
    }
}

//! Operators through the macros and the native harness, as an author uses them.

use std::collections::{BTreeMap, BTreeSet};

use millstream_sdk::{
    Aggregate, Batch, Column, Columns, Failure, Kind, Level, Packed, ReadRow, Row, Settings, Timestamp, Values, info,
    testing,
};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Row)]
struct Everything {
    flag: bool,
    count: i64,
    price: f64,
    name: String,
    raw: Vec<u8>,
    at: Timestamp,
    maybe: Option<String>,
    #[column(name = "event type")]
    kind: Option<i64>,
    tags: Packed<BTreeSet<String>>,
}

fn everything(number: i64) -> Everything {
    Everything {
        flag: number % 2 == 0,
        count: number,
        price: number as f64 / 3.0,
        name: "ä".repeat(number as usize),
        raw: vec![0xff; number as usize],
        at: Timestamp(-number),
        maybe: (number % 3 == 0).then(|| number.to_string()),
        kind: (number % 2 == 1).then_some(number),
        tags: Packed((0..number).map(|tag| tag.to_string()).collect()),
    }
}

#[millstream_sdk::map]
fn same(row: Everything) -> Everything {
    row
}

#[test]
fn every_kind_of_column_goes_there_and_back() {
    let rows: Vec<Everything> = (0..7).map(everything).collect();
    let answer: Columns<Everything> = testing::map::<same, _, _>(&[], rows.clone()).unwrap();
    assert_eq!(answer.to_rows().unwrap(), rows);
}

#[test]
fn the_signature_is_the_struct() {
    let signature = testing::describe::<same>(&[]).unwrap();
    let field = |index: usize| {
        let field = &signature.inputs[index];
        (field.name.as_str(), field.kind, field.nullable)
    };
    assert_eq!(field(5), ("at", Kind::TimestampMs, false));
    assert_eq!(field(6), ("maybe", Kind::Text, true));
    assert_eq!(field(7), ("event type", Kind::Int64, true));
    assert_eq!(field(8), ("tags", Kind::Binary, false));
    assert_eq!((signature.inputs.len(), &signature.state), (9, &None));
}

#[derive(Clone, Row)]
struct Word<'a> {
    word: &'a str,
}

#[derive(Debug, PartialEq, Row)]
struct Length {
    length: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Bytes,
    Chars,
}

#[derive(Deserialize)]
struct Measure {
    unit: Unit,
    #[serde(default)]
    longest: Option<i64>,
}

#[millstream_sdk::map]
fn length(word: Word<'_>, measure: &Measure) -> Result<Length, String> {
    let length = match measure.unit {
        Unit::Bytes => word.word.len(),
        Unit::Chars => word.word.chars().count(),
    } as i64;
    info!("{} is {length} long", word.word);
    match measure.longest {
        Some(longest) if length > longest => Err(format!("longer than {longest}")),
        _ => Ok(Length { length }),
    }
}

#[test]
fn settings_become_the_fields_of_a_struct() {
    let words = [Word { word: "äh" }, Word { word: "" }];
    let lengths = |config: testing::Config<'_>| {
        testing::map::<length, _, Length>(config, words.clone()).unwrap().int64("length").unwrap().to_vec()
    };
    assert_eq!(lengths(&[("unit", "bytes".into())]), [3, 0]);
    assert_eq!(lengths(&[("unit", "chars".into()), ("longest", 2.into())]), [2, 0]);
    let error = testing::describe::<length>(&[("unit", "feet".into())]).unwrap_err();
    assert!(error.contains("unknown variant `feet`, expected `bytes` or `chars`"), "{error}");
    let error = testing::describe::<length>(&[("unit", "bytes".into()), ("longest", 1.5.into())]).unwrap_err();
    assert!(error.contains("expected i64"), "{error}");
}

#[test]
fn all_failing_rows_are_named_and_lines_are_recorded() {
    testing::recorded();
    let words = ["a", "bcd", "", "efgh"].map(|word| Word { word });
    let config = [("unit", "bytes".into()), ("longest", 2.into())];
    let Err(Failure::Rows(rows)) = testing::map::<length, _, Length>(&config, words) else { panic!("no row failed") };
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(rows[0].reason, "longer than 2");
    assert_eq!(testing::recorded().lines[1], (Level::Info, "bcd is 3 long".to_owned()));
}

#[millstream_sdk::filter]
fn is_set(word: Word<'_>, settings: &Settings) -> bool {
    settings.get(word.word).is_some()
}

#[test]
fn settings_may_be_read_as_they_are() {
    let words = ["a", "b"].map(|word| Word { word });
    assert_eq!(testing::filter::<is_set, _>(&[("b", true.into())], words).unwrap(), [false, true]);
}

/// Distinct words: what typed columns cannot say.
#[derive(Default)]
struct Distinct;

#[millstream_sdk::aggregate(version = 2)]
impl Aggregate for Distinct {
    type Input<'a> = Word<'a>;
    type Accumulator = Packed<BTreeMap<String, u32>>;
    type Output = Length;

    fn create(&self) -> Self::Accumulator {
        Packed::default()
    }

    fn fold(&self, words: &mut Self::Accumulator, row: Word<'_>) -> Result<(), &'static str> {
        if row.word.is_empty() {
            return Err("the word is empty");
        }
        *words.0.entry(row.word.to_owned()).or_default() += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Self::Accumulator, right: Self::Accumulator) {
        for (word, count) in right.0 {
            *left.0.entry(word).or_default() += count;
        }
    }

    fn finish(&self, words: &Self::Accumulator) -> Length {
        Length { length: words.0.len() as i64 }
    }
}

#[test]
fn an_accumulator_may_be_any_serde_type() {
    let words = ["a", "b", "a", "c"].map(|word| Word { word });
    let length = testing::aggregate::<Distinct, _>(&[], words).unwrap();
    assert_eq!(length.to_rows().unwrap(), [Length { length: 3 }]);
    let state = testing::describe::<Distinct>(&[]).unwrap().state.unwrap();
    assert_eq!((state.version, state.fields[0].name.as_str(), state.fields[0].kind), (2, "packed", Kind::Binary));
}

#[test]
fn a_row_that_an_aggregate_refuses_fails_alone() {
    let words = ["a", ""].map(|word| Word { word });
    let Err(Failure::Rows(rows)) = testing::aggregate::<Distinct, _>(&[], words) else { panic!("no row failed") };
    assert_eq!((rows.len(), rows[0].row), (1, 1));
}

#[millstream_sdk::map]
fn shorter(words: Columns<Word<'_>>) -> Result<Columns<Length>, String> {
    Columns::new(1, vec![Values::Int64(vec![words.rows() as i64]).into()])
}

#[test]
fn a_map_over_columns_must_keep_the_number_of_rows() {
    let words = ["a", "b"].map(|word| Word { word });
    let failure = testing::map::<shorter, _, Length>(&[], words).unwrap_err();
    assert_eq!(failure, Failure::Batch("a map answers as many rows as it got: expected 2, got 1".to_owned()));
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let floats = Column::from(Values::Float64(vec![1.0]));
    let error = Columns::<Length>::new(1, vec![floats.clone()]).unwrap_err();
    assert_eq!(error, "column \"length\": expected int64, got float64");
    let batch = Batch { rows: 1, columns: vec![floats] };
    assert_eq!(Length::open(&batch).err().unwrap(), "column \"length\": expected int64, got float64");
    let null = Column { values: Values::Int64(vec![0]), validity: Some(vec![0]) };
    assert!(Columns::<Length>::new(1, vec![null]).unwrap_err().contains("make the field an Option"));
    let columns = Columns::from_rows([Length { length: 1 }]);
    assert_eq!(columns.int64("width").unwrap_err(), "no column \"width\"; there are: length");
}

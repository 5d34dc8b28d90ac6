//! Pipelines that read files, which lie in the page cache; beside each format the loop that one would write by hand.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use millstream::format::Format;
use millstream::pipeline::builder::Source;
use millstream::record::{Field, Kind};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Engine, pipelines, wall};
use crate::arguments::Arguments;
use crate::measure::{Failed, Side};
use crate::{Measure, Wanted};

/// A row like an auction's bid: what is read of it are three of its seven fields.
#[derive(Serialize)]
struct Bid {
    auction: u64,
    bidder: u64,
    amount: u64,
    channel: &'static str,
    url: String,
    at: u64,
    extra: &'static str,
}

/// What the loops by hand read of it.
#[derive(Deserialize)]
struct Amount {
    amount: i64,
}

impl Bid {
    fn new(row: u64) -> Self {
        let draw =
            row.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let channel = ["apple", "google", "facebook", "baidu"][(draw >> 61) as usize % 4];
        Self {
            auction: (draw >> 20) % 10_000,
            bidder: (draw >> 24) % 1_000_000,
            amount: (draw >> 40) % 1_000,
            channel,
            url: format!("https://www.example.com/item.htm?query={}", draw >> 44),
            at: 1_700_000_000_000 + row / 1_000,
            extra: "OV`JUZ\\VYSKX^K[YPNXBICKX",
        }
    }
}

/// All groups of files. Files are made for a group and removed after it.
pub(super) fn groups(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let rows = if arguments.quick { 200_000 } else { 2_000_000 };
    let io = |error: std::io::Error| format!("cannot write what is to be read: {error}");
    for format in [Format::Json, Format::Msgpack] {
        let name = format!("engine: {} file", format.name());
        if !wanted(&name) {
            continue;
        }
        let folder = TempDir::new().map_err(io)?;
        let path = bids(&folder, format, rows).map_err(io)?;
        let by_hand = by_hand(format, path.clone());
        let sides = vec![
            by_hand,
            engine.side("→ filter → discard", pipelines::filtered(source(&path, format))?)?,
            engine.side("→ 5 s window, built-in", pipelines::totals(source(&path, format), "auction", 1, false)?)?,
            engine.side("→ 5 s window, wasm", pipelines::totals(source(&path, format), "auction", 1, true)?)?,
        ];
        measure(wall(&name, sides))?;
    }
    let name = "engine: text file of 100-byte lines";
    if wanted(name) {
        let folder = TempDir::new().map_err(io)?;
        let path = lines(&folder, rows).map_err(io)?;
        let sides = vec![
            lines_by_hand(path.clone()),
            engine.side("→ filter → discard", pipelines::lines(Source::file(path.to_string_lossy()))?)?,
        ];
        measure(wall(name, sides))?;
    }
    Ok(())
}

fn source(path: &Path, format: Format) -> Source {
    let (auction, amount) = (Field::new("auction", Kind::Int64), Field::new("amount", Kind::Int64));
    Source::file(path.to_string_lossy())
        .format(format)
        .schema([auction, amount, Field::new("at", Kind::TimestampMs)])
        .event_time("at")
}

fn bids(folder: &TempDir, format: Format, rows: u64) -> std::io::Result<PathBuf> {
    let path = folder.path().join("bids");
    let mut file = BufWriter::new(File::create(&path)?);
    for row in 0..rows {
        let bid = Bid::new(row);
        if format == Format::Json {
            serde_json::to_writer(&mut file, &bid)?;
            file.write_all(b"\n")?;
        } else {
            file.write_all(&rmp_serde::to_vec_named(&bid).map_err(std::io::Error::other)?)?;
        }
    }
    file.flush()?;
    Ok(path)
}

/// Lines of a log, 100 bytes each with the line break.
pub(super) fn lines(folder: &TempDir, rows: u64) -> std::io::Result<PathBuf> {
    let path = folder.path().join("lines");
    let mut file = BufWriter::new(File::create(&path)?);
    for row in 0..rows {
        let level =
            ["INFO", "WARN", "INFO", "DEBUG", "INFO", "ERROR", "INFO", "INFO", "DEBUG", "INFO"][(row % 10) as usize];
        let line =
            format!("2026-01-01T00:00:{:02}.{:03}Z {level} request {row} of the shop", row / 1_000 % 60, row % 1_000);
        writeln!(file, "{line:.<99}")?;
    }
    file.flush()?;
    Ok(path)
}

/// The filter as a loop over serde's values, on one thread.
fn by_hand(format: Format, path: PathBuf) -> Side<'static> {
    let name = if format == Format::Json { "a loop over serde_json" } else { "a loop over rmp-serde" };
    Side::new(name, move || {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut file = BufReader::new(File::open(&path).map_err(|error| failed(&error))?);
        let (mut rows, mut kept, mut line) = (0, 0, Vec::new());
        while !file.fill_buf().map_err(|error| failed(&error))?.is_empty() {
            let bid: Amount = if format == Format::Json {
                line.clear();
                file.read_until(b'\n', &mut line).map_err(|error| failed(&error))?;
                serde_json::from_slice(&line).map_err(|error| failed(&error))?
            } else {
                rmp_serde::from_read(&mut file).map_err(|error| failed(&error))?
            };
            rows += 1;
            kept += u64::from(bid.amount >= 900);
        }
        std::hint::black_box(kept);
        Ok(rows)
    })
}

/// The filter as a loop over lines, on one thread.
fn lines_by_hand(path: PathBuf) -> Side<'static> {
    Side::new("a loop over lines", move || {
        let file = File::open(&path).map_err(|error| error.to_string())?;
        let (mut rows, mut kept) = (0, 0);
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|error| error.to_string())?;
            let level = line.as_bytes().get(25..29);
            kept += u64::from(level == Some(b"WARN") || level == Some(b"ERRO"));
            rows += 1;
        }
        std::hint::black_box(kept);
        Ok(rows)
    })
}

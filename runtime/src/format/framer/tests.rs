//! Any chunking gives the same frames, and hostile streams cost no memory.

use proptest::prelude::*;

use super::*;

/// Everything that a framer finds in a stream: records with offsets, and bad records.
type Found = (Vec<(u64, Vec<u8>)>, Vec<(u64, Vec<u8>, String)>);

fn frame(format: Format, framing: Framing, max: usize, chunks: &[&[u8]]) -> Found {
    let mut framer = Framer::new(format, framing);
    framer.record_bytes_max = max;
    let mut frames = Frames::default();
    let mut bad = Vec::new();
    for chunk in chunks {
        assert_eq!(framer.push(chunk, &mut frames), chunk.len());
        bad.extend(framer.take_bad());
    }
    bad.extend(framer.finish(&mut frames));
    assert_eq!(framer.finish(&mut frames), None);
    assert_eq!(framer.position(), chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
    let records = (0..frames.len()).map(|index| (frames.offsets[index], frames.get(index).to_vec()));
    (records.collect(), bad.into_iter().map(|bad| (bad.offset, bad.bytes, bad.reason)).collect())
}

fn records(format: Format, framing: Framing, stream: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (records, bad) = frame(format, framing, 1_000, &[stream]);
    assert_eq!(bad, []);
    records
}

fn owned(records: &[(u64, &[u8])]) -> Vec<(u64, Vec<u8>)> {
    records.iter().map(|(offset, record)| (*offset, record.to_vec())).collect()
}

#[test]
fn lines_lose_their_ends_and_only_json_and_csv_skip_empty_ones() {
    let stream = b"a\r\n\nb\n\r\nc\rd";
    assert_eq!(
        records(Format::Text, Framing::Lines, stream),
        owned(&[(0, b"a"), (3, b""), (4, b"b"), (6, b""), (8, b"c\rd")])
    );
    assert_eq!(records(Format::Json, Framing::Lines, stream), owned(&[(0, b"a"), (4, b"b"), (8, b"c\rd")]));
    assert_eq!(records(Format::Raw, Framing::Lines, b"x\n"), owned(&[(0, b"x")]));
    assert_eq!(records(Format::Raw, Framing::Lines, b""), owned(&[]));
}

#[test]
fn csv_keeps_line_ends_inside_quotes_only() {
    let stream = b"a,\"b\nc\",d\r\ne\"f,g\n\"x\"\"\n\"\"\",\"y\"\n\nlast,\"open\n";
    let expected: [(u64, &[u8]); 4] =
        [(0, b"a,\"b\nc\",d"), (11, b"e\"f,g"), (17, b"\"x\"\"\n\"\"\",\"y\""), (31, b"last,\"open\n")];
    assert_eq!(records(Format::Csv, Framing::Lines, stream), owned(&expected));
}

#[test]
fn length_prefixed_records_may_be_empty_and_truncated_ones_are_bad() {
    let (records, bad) = frame(Format::Json, Framing::Length, 10, &[b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c\0\0\0\x05xy"]);
    assert_eq!(records, owned(&[(0, b"ab"), (6, b""), (10, b"c")]));
    assert_eq!(
        bad,
        [(
            15,
            b"xy".to_vec(),
            "expected the rest of a length-prefixed record, got the end of the input after 6 bytes".into()
        )]
    );
}

#[test]
fn messagepack_values_follow_each_other() {
    let stream = b"\x81\xa1a\x01\x93\x01\x02\x03\x05\xc4\x02zz\x82\xa1a\x91\x90";
    let (records, bad) = frame(Format::Msgpack, Framing::Lines, 100, &[stream]);
    assert_eq!(records, owned(&[(0, b"\x81\xa1a\x01"), (4, b"\x93\x01\x02\x03"), (8, b"\x05"), (9, b"\xc4\x02zz")]));
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].0, &bad[0].1[..]), (13, &b"\x82\xa1a\x91\x90"[..]));
    let (records, bad) = frame(Format::Msgpack, Framing::Lines, 100, &[b"\x01\x92\x01\xc1\x02\x03"]);
    assert_eq!(records, owned(&[(0, b"\x01")]));
    assert_eq!((bad[0].0, bad[0].1.as_slice()), (1, &b"\x92\x01\xc1"[..]));
}

#[test]
fn a_record_that_is_too_large_is_bad_and_the_next_one_is_found() {
    let (found, bad) = frame(Format::Text, Framing::Lines, 4, &[b"abcd\nabcde\nx"]);
    assert_eq!(found, owned(&[(0, b"abcd"), (11, b"x")]));
    assert_eq!(bad, [(5, b"abcde".to_vec(), "expected a record of at most 4 bytes, got 5".into())]);
    let (found, _) = frame(Format::Csv, Framing::Lines, 4, &[b"\"open and long\nx\n"]);
    assert_eq!(found, owned(&[(15, b"x")]));
    let (found, bad) = frame(Format::Raw, Framing::Length, 4, &[b"\0\0\0\x05abcde\0\0\0\x01x"]);
    assert_eq!((found, bad.len()), (owned(&[(9, b"x")]), 1));
    let (found, bad) = frame(Format::Msgpack, Framing::Lines, 4, &[b"\xa5abcde\x92\xa1a\x01\x07"]);
    assert_eq!((found, bad.len()), (owned(&[(6, b"\x92\xa1a\x01"), (10, b"\x07")]), 1));
}

#[test]
fn lying_lengths_and_endless_lines_hold_little() {
    for (format, framing, head) in [
        (Format::Text, Framing::Lines, &b"x"[..]),
        (Format::Csv, Framing::Lines, b"\"x"),
        (Format::Raw, Framing::Length, &[0xff; 4]),
        (Format::Msgpack, Framing::Lines, &[0xdd, 0xff, 0xff, 0xff, 0xff]),
        (Format::Msgpack, Framing::Lines, &[0xdb, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let mut framer = Framer::new(format, framing);
        framer.record_bytes_max = 100_000;
        let mut frames = Frames::default();
        framer.push(head, &mut frames);
        for _ in 0..100 {
            framer.push(&[b'z'; 10_000], &mut frames);
            assert!(framer.held.capacity() <= 300_000);
        }
        assert!(frames.is_empty() && framer.held.len() == BAD_RECORD_BYTES);
        let bad = framer.finish(&mut frames).unwrap();
        assert_eq!((bad.offset, bad.bytes.len()), (0, BAD_RECORD_BYTES));
        assert!(frames.is_empty());
    }
}

#[test]
fn a_full_batch_stops_the_framer_and_nothing_is_lost() {
    let stream = b"x\n".repeat(BATCH_ROWS + 5);
    let mut framer = Framer::new(Format::Text, Framing::Lines);
    let mut frames = Frames::default();
    let taken = framer.push(&stream, &mut frames);
    assert_eq!((frames.len(), taken), (BATCH_ROWS, 2 * BATCH_ROWS));
    assert_eq!(framer.push(&stream[taken..], &mut frames), 0);
    frames.clear();
    assert_eq!(framer.push(&stream[taken..], &mut frames), 10);
    assert_eq!((frames.len(), frames.offsets[0]), (5, taken as u64));
    let mut framer = Framer::new(Format::Text, Framing::Lines);
    frames.clear();
    let line = [&[b'x'; 100_000][..], b"\n"].concat().repeat(60);
    framer.push(&line, &mut frames);
    assert!(frames.bytes.len() >= BATCH_BYTES && frames.bytes.len() < BATCH_BYTES + 100_001);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_chunking_gives_the_same_frames(
        stream in prop_oneof![
            "[ab,\"\r\n]{0,60}".prop_map(String::into_bytes),
            proptest::collection::vec(prop_oneof![3 => 0..4_u8, 1 => any::<u8>(), 1 => 0x80..0xb0_u8], 0..60),
        ],
        cuts in proptest::collection::vec(0..60_usize, 0..8),
        max in prop_oneof![Just(1_000_usize), 0..12_usize],
    ) {
        let mut cuts = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect::<Vec<_>>();
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect::<Vec<_>>();
        for (format, framing) in [
            (Format::Text, Framing::Lines),
            (Format::Json, Framing::Lines),
            (Format::Csv, Framing::Lines),
            (Format::Msgpack, Framing::Lines),
            (Format::Raw, Framing::Length),
        ] {
            prop_assert_eq!(frame(format, framing, max, &chunks), frame(format, framing, max, &[&stream]));
        }
    }
}

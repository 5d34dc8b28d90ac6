//! Real connections on the loopback interface.

use std::path::Path;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::source::testing::{Told, context, read_to_end};
use crate::source::{Framing, Source, SourceEvent};

async fn listen(framing: Framing, connections: Option<u64>) -> (Feed, std::net::SocketAddr) {
    let source = open("127.0.0.1:0", framing, connections, context(Path::new(""))).await.unwrap();
    let address = source.bound().unwrap();
    (source, address)
}

/// Reads until `rows` rows have come.
async fn read_rows(source: &mut Feed, told: &mut Told, rows: usize) {
    while told.rows.len() < rows {
        told.add(source.next().await.unwrap());
    }
}

#[tokio::test]
async fn connections_are_partitions_that_end_when_they_close() {
    let (mut source, address) = listen(Framing::Lines, Some(2)).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"a1\na2\n").await.unwrap();
    let mut told = Told::default();
    read_rows(&mut source, &mut told, 2).await;
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(b"b1\r\n").await.unwrap();
    read_rows(&mut source, &mut told, 3).await;
    drop(first);
    drop(second);
    let rest = read_to_end(&mut source).await;
    assert_eq!(rest.ended.len(), 2);
    let row = |partition, value: &str| (partition, value.to_owned(), 5_000);
    assert_eq!(told.rows, [row(0, "a1"), row(0, "a2"), row(1, "b1")], "time of arrival is the clock's");
}

#[tokio::test]
async fn a_record_is_handed_on_though_nothing_follows() {
    let (mut source, address) = listen(Framing::Lines, None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"whole\nhal").await.unwrap();
    let mut told = Told::default();
    read_rows(&mut source, &mut told, 1).await;
    assert_eq!(told.values(), ["whole"]);
    assert!(matches!(source.next().await.unwrap(), SourceEvent::Quiet));
    stream.write_all(b"f\n").await.unwrap();
    read_rows(&mut source, &mut told, 2).await;
    assert_eq!(told.values(), ["whole", "half"]);
}

#[tokio::test]
async fn a_last_line_without_its_end_counts() {
    let (mut source, address) = listen(Framing::Lines, Some(1)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"a\nb").await.unwrap();
    drop(stream);
    assert_eq!(read_to_end(&mut source).await.values(), ["a", "b"]);
}

#[tokio::test]
async fn lengths_frame_records_that_hold_line_breaks() {
    let (mut source, address) = listen(Framing::Length, Some(1)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for part in [&b"\0\0\0\x03a\nb\0\0"[..], b"\0\x01", b"c\0\0\0\0", b"\0\0\0\x09cut"] {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let told = read_to_end(&mut source).await;
    assert_eq!(told.values(), ["a\nb", "c", ""]);
    assert_eq!(told.bad.len(), 1, "the half record: {:?}", told.bad);
}

#[tokio::test]
async fn a_line_longer_than_the_limit_is_a_bad_record_and_the_next_is_read() {
    let (mut source, address) = listen(Framing::Lines, Some(1)).await;
    let send = async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&vec![b'x'; crate::limits::RECORD_BYTES_MAX + 10]).await.unwrap();
        stream.write_all(b"\nnext\n").await.unwrap();
    };
    let (told, ()) = tokio::join!(read_to_end(&mut source), send);
    assert_eq!(told.values(), ["next"]);
    assert_eq!(told.bad.len(), 1);
}

#[tokio::test]
async fn many_senders_at_once_lose_nothing_and_stay_in_order() {
    let (mut source, address) = listen(Framing::Lines, Some(8)).await;
    let (senders, lines) = (8, 20_000);
    for sender in 0..senders {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let bytes: String = (0..lines).map(|i| format!("{sender} {i}\n")).collect();
            for chunk in bytes.as_bytes().chunks(1 + sender * 997) {
                stream.write_all(chunk).await.unwrap();
            }
        });
    }
    let told = read_to_end(&mut source).await;
    assert_eq!(told.rows.len(), senders * lines);
    let mut of_sender = vec![0; senders];
    let mut partition_of = vec![None; senders];
    for (partition, value, _) in &told.rows {
        let (sender, line) = value.split_once(' ').unwrap();
        let sender: usize = sender.parse().unwrap();
        assert_eq!(line, of_sender[sender].to_string());
        of_sender[sender] += 1;
        assert_eq!(*partition_of[sender].get_or_insert(*partition), *partition);
    }
}

#[tokio::test]
async fn a_sender_waits_while_nobody_takes_its_records() {
    let (mut source, address) = listen(Framing::Lines, Some(1)).await;
    let bytes = 64 << 20;
    let sender = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let line = [b'x'; 1_024];
        for _ in 0..bytes / 1_025 {
            stream.write_all(&line).await.unwrap();
            stream.write_all(b"\n").await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sender.is_finished(), "64 MiB went somewhere");
    assert_eq!(read_to_end(&mut source).await.rows.len(), bytes / 1_025);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let (_source, address) = listen(Framing::Lines, None).await;
    let second = open(&address.to_string(), Framing::Lines, None, context(Path::new(""))).await;
    let error = second.err().unwrap().to_string();
    assert!(error.starts_with(&format!("source `input`: cannot listen on `{address}`: ")), "{error}");
}

#[tokio::test]
async fn a_dropped_source_closes_its_port_and_connections() {
    let (source, address) = listen(Framing::Lines, None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"a\n").await.unwrap();
    drop(source);
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut byte)).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(TcpStream::connect(address).await.is_err());
}

async fn listen_bounded(bounds: Bounds, connections: u64) -> (Feed, std::net::SocketAddr) {
    let context = context(Path::new(""));
    let source = open_bounded("127.0.0.1:0", Framing::Lines, Some(connections), bounds, context).await.unwrap();
    let address = source.bound().unwrap();
    (source, address)
}

#[tokio::test]
async fn a_sender_that_is_silent_in_the_middle_of_a_record_is_closed_and_one_between_records_is_not() {
    let bounds = Bounds { held_bytes: 1 << 20, silence: Duration::from_millis(50) };
    let (mut source, address) = listen_bounded(bounds, 2).await;
    let mut between = TcpStream::connect(address).await.unwrap();
    between.write_all(b"a\n").await.unwrap();
    let mut inside = TcpStream::connect(address).await.unwrap();
    inside.write_all(b"b\nhalf").await.unwrap();
    let patient = async move {
        let mut byte = [0];
        let closed = tokio::time::timeout(Duration::from_secs(2), inside.read(&mut byte)).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        between.write_all(b"c\n").await.unwrap();
    };
    let (told, ()) = tokio::join!(read_to_end(&mut source), patient);
    let mut values = told.values();
    values.sort_unstable();
    assert_eq!(values, ["a", "b", "c"]);
    assert_eq!(told.bad.len(), 1, "{:?}", told.bad);
}

#[tokio::test]
async fn unfinished_records_of_all_connections_are_bounded() {
    // one grows to less than twice its size
    let bounds = Bounds { held_bytes: 1_400 << 10, silence: Duration::from_secs(60) };
    let (mut source, address) = listen_bounded(bounds, 3).await;
    let send = async move {
        let mut small = TcpStream::connect(address).await.unwrap();
        small.write_all(b"sma").await.unwrap();
        let mut streams = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        for stream in &mut streams {
            // the second of them is closed on the way
            let _ = stream.write_all(&vec![b'x'; 700 << 10]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        small.write_all(b"ll\n").await.unwrap();
        streams[0].write_all(b"\n").await.unwrap();
    };
    let (told, ()) = tokio::join!(read_to_end(&mut source), send);
    let mut lengths: Vec<usize> = told.values().iter().map(|value| value.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [5, 700 << 10]);
    assert_eq!(told.bad.len(), 1);
}

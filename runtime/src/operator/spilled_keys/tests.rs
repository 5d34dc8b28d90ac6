//! The store's side of keys that leave memory.

use super::*;

#[test]
fn what_is_kept_of_a_key_comes_back_as_it_was_and_nothing_else_is_taken_for_it() {
    let parts = Parts { wakes: [Some(i64::MIN), None, Some(7)], tables: vec![b"rows".as_slice(), b""] };
    let value = parts.write().unwrap();
    let read = Parts::read(&value, 2).unwrap();
    assert_eq!((read.wakes, read.tables), (parts.wakes, parts.tables));
    assert!((0..value.len()).all(|end| Parts::read(&value[..end], 2).is_none()));
    assert!(Parts::read(&value, 1).is_none() && Parts::read(&value, 3).is_none());
}

#[test]
fn marks_are_in_the_order_of_time() {
    let times = [i64::MIN, -5, 0, 3, i64::MAX];
    let marks: Vec<Vec<u8>> = times.iter().map(|time| mark_of(Wake::Event, *time, b"key")).collect();
    assert!(marks.is_sorted());
    assert!(marks.iter().zip(times).all(|(mark, time)| read_mark(mark) == Some((time, b"key".as_slice()))));
    assert_eq!(read_mark(b"e1234"), None);
}

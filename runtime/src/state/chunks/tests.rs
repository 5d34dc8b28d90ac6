//! Columns in chunks, and what frozen copies share with them.

use std::collections::BTreeMap;

use super::*;

#[test]
fn chunks_exist_where_they_were_made() {
    let mut column = Chunked::new(7_i64);
    assert_eq!(column.get(1_000), None);
    column.set(1_000, 1);
    assert_eq!(column.get(1_000), Some(&1));
    assert_eq!(column.get(1_001), Some(&7));
    assert_eq!(column.get(1), None);
    assert_eq!(column.get_mut(u32::MAX), None);
    let first = Chunked::<i64>::first_slot(Chunked::<i64>::chunk_of(1_000));
    assert_eq!(column.chunks().map(|(number, _)| number).collect::<Vec<_>>(), [first as usize / CHUNK_ROWS]);
}

#[test]
fn a_frozen_copy_stays_as_it_was_and_marks_tell_which_chunks_have_been_written_since() {
    let mut column = Chunked::new(0_i64);
    (0..1_000).for_each(|slot| column.set(slot, i64::from(slot)));
    let marks = |of: &Chunked<i64>| {
        let mut marks = Vec::new();
        of.marks(0..of.chunks_end(), &mut marks);
        marks
    };
    let first = column.freeze();
    let again = column.freeze();
    assert_eq!(marks(&first), marks(&again));
    assert!(marks(&first).iter().all(|mark| *mark > 0));
    // while there is a copy, a chunk that is written to is copied; without one it is taken back
    column.set(300, -1);
    assert_eq!((first.get(300), column.get(300), column.get(301)), (Some(&300), Some(&-1), Some(&301)));
    let second = column.freeze();
    let changed: Vec<usize> = marks(&first)
        .iter()
        .zip(marks(&second))
        .enumerate()
        .filter(|(_, (a, b))| **a != *b)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(changed, [1]);
    drop((first, again, second));
    column.set(0, -2);
    column.refill(5, |slot| slot == 999);
    assert_eq!((column.get(0), column.get(1), column.get(999)), (Some(&-2), Some(&1), Some(&5)));
    let mut others = Chunked::new(0_i64);
    others.set(0, -2);
    assert_ne!(marks(&others.freeze())[0], marks(&column.freeze())[0], "numbers are of one column alone");
}

#[test]
fn renumbering_moves_values_and_drops_the_rest() {
    let mut column = Chunked::new(String::new());
    for slot in 0..600 {
        column.set(slot, slot.to_string());
    }
    column.renumber(&[(3, 0), (599, 1), (5_000, 2)]);
    assert_eq!(column.get(0).map(String::as_str), Some("3"));
    assert_eq!(column.get(1).map(String::as_str), Some("599"));
    assert_eq!(column.get(2).map(String::as_str), Some(""));
    assert!(!column.has(1));
}

/// Freezings, writes and drops of copies in any order, held against plain vectors: far more than groups lie behind each other.
#[test]
fn copies_that_overlap_in_any_way_stay_as_they_were_and_equal_marks_mean_equal_values() {
    const CHUNKS: usize = 2 * group::GROUP_CHUNKS + 3;
    let slots = (CHUNKS * CHUNK_ROWS) as u64;
    let marks = |of: &Chunked<u64>| {
        let mut marks = Vec::new();
        of.marks(0..CHUNKS, &mut marks);
        marks
    };
    for seed in 0..8 {
        let mut column = Chunked::new(0_u64);
        let mut model = vec![0_u64; slots as usize];
        let mut copies: Vec<(Chunked<u64>, Vec<u64>)> = Vec::new();
        let mut known: BTreeMap<(usize, u64), Vec<u64>> = BTreeMap::new();
        for step in 0..400 {
            let draw = crate::rng::mix(seed << 32 | step);
            let which = (draw >> 32) as usize;
            match draw % 8 {
                0 => {
                    let copy = column.freeze();
                    for (chunk, (mark, values)) in marks(&copy).into_iter().zip(model.chunks(CHUNK_ROWS)).enumerate() {
                        let seen =
                            copy.has(chunk).then(|| known.entry((chunk, mark)).or_insert_with(|| values.to_vec()));
                        assert!(seen.is_none_or(|seen| seen.as_slice() == values), "seed {seed}, step {step}");
                    }
                    copies.push((copy, model.clone()));
                }
                // few go, so that many overlap
                1 if !copies.is_empty() => _ = copies.swap_remove(which % copies.len()),
                2 if step % 50 == 0 => copies.clear(),
                _ => {
                    let slot = draw.rotate_left(17) % slots;
                    column.set(slot as u32, draw);
                    model[slot as usize] = draw;
                }
            }
        }
        copies.push((column.clone(), model));
        for (copy, model) in &copies {
            for (slot, value) in (0..).zip(model) {
                assert_eq!(copy.get(slot).unwrap_or(&0), value, "seed {seed}, slot {slot}");
            }
        }
    }
}

#[test]
fn what_a_copy_has_shared_is_taken_back_without_another_copy_once_it_is_gone() {
    let mut column = Chunked::new(0_i64);
    (0..10_000).for_each(|slot| column.set(slot, 1));
    let place = |of: &Chunked<i64>| std::ptr::from_ref(of.get(300).unwrap());
    let before = place(&column);
    let copy = column.freeze();
    assert_eq!((place(&copy), place(&column)), (before, before));
    drop(copy);
    column.set(300, 2);
    assert_eq!(place(&column), before);
    // while there is one it is written elsewhere, and its place is used again for the next that is
    let copy = column.freeze();
    column.set(300, 3);
    assert_ne!(place(&column), before);
    drop(copy);
    let copy = column.freeze();
    let mut without = Chunked::new(0_i64);
    (0..10_000).for_each(|slot| without.set(slot, 1));
    assert_eq!(column.bytes(), without.bytes());
    column.set(300, 4);
    assert_eq!((place(&column), copy.get(300)), (before, Some(&3)));
}

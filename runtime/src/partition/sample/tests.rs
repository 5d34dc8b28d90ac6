use arrow_array::{Float64Array, Int64Array, StringArray};

use super::*;

fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// How many of `values` each task gets.
fn shares(points: &SplitPoints, column: &ArrayRef, tasks: usize) -> Vec<usize> {
    let mut shares = vec![0; tasks];
    for range in points.ranges_of(column).unwrap() {
        shares[points.task_of(range, tasks)] += 1;
    }
    shares
}

#[test]
fn tasks_get_about_as_many_rows_each_however_the_values_lie() {
    let mut random = SplitMix::new(7);
    let even: Vec<i64> = (0..50_000).map(|_| random.draw().cast_signed()).collect();
    // the square of a number in 0..1000, so that small values are many
    let skewed: Vec<i64> = (0..50_000).map(|_| (random.draw() % 1_000).pow(2).cast_signed()).collect();
    for values in [even, skewed] {
        let column = integers(values.iter().copied());
        let sampler = Sampler::new(Kind::Int64, 1_000);
        let (one, other) = (sampler.sender(), sampler.sender());
        assert!(!sampler.is_full());
        // one sender sees nine times as much
        for part in 0..10 {
            let rows = integers(values.iter().skip(part * 5_000).take(5_000).copied());
            if part == 0 { other.see(&rows) } else { one.see(&rows) }.unwrap();
        }
        assert!(sampler.is_full());
        let points = sampler.draw(4).unwrap();
        assert!(points.ascend() && points.ranges() == 4, "{points:?}");
        for share in shares(&points, &column, 4) {
            assert!((10_000..15_000).contains(&share), "{share} of 50,000 rows go to one of four tasks");
        }
    }
}

#[test]
fn a_sender_that_sees_more_counts_for_more() {
    let sampler = Sampler::new(Kind::Int64, 100);
    let (small, large) = (sampler.sender(), sampler.sender());
    small.see(&integers(0..100)).unwrap();
    large.see(&integers((0..10_000).map(|value| 1_000 + value))).unwrap();
    let SplitPoints::Integers(points) = sampler.draw(2).unwrap() else { panic!("of integers") };
    assert!(points.len() == 1 && (4_000..8_000).contains(&points[0]), "{points:?}");
}

#[test]
fn what_came_by_last_time_is_forgotten_and_too_little_is_kept() {
    let sampler = Sampler::new(Kind::Int64, 64);
    let sample = sampler.sender();
    sample.see(&integers(0..31)).unwrap();
    assert_eq!(sampler.draw(2), None);
    sample.see(&integers(31..64)).unwrap();
    assert_eq!(sampler.draw(2), Some(SplitPoints::Integers(vec![32])));
    assert_eq!(sampler.draw(2), None);
    sample.see(&integers(1_000..1_064)).unwrap();
    assert_eq!(sampler.draw(2), Some(SplitPoints::Integers(vec![1_032])));
}

#[test]
fn one_value_that_is_most_of_all_leaves_fewer_ranges() {
    let sampler = Sampler::new(Kind::Int64, 100);
    let sample = sampler.sender();
    sample.see(&integers((0..100).map(|row| if row < 80 { 5 } else { row }))).unwrap();
    let points = sampler.draw(4).unwrap();
    let SplitPoints::Integers(found) = &points else { panic!("of integers") };
    assert!(points.ascend() && found.len() < 3 && !found.contains(&5), "{found:?}");
}

#[test]
fn nulls_and_what_is_no_number_are_no_split_points() {
    let sampler = Sampler::new(Kind::Float64, 100);
    let values = (0..200).map(|row| match row % 4 {
        0 => None,
        1 => Some(f64::NAN),
        _ => Some(f64::from(row)),
    });
    sampler.sender().see(&(Arc::new(Float64Array::from_iter(values)) as ArrayRef)).unwrap();
    let SplitPoints::Floats(points) = sampler.draw(2).unwrap() else { panic!("of floats") };
    assert!(points.len() == 1 && (60.0..140.0).contains(&points[0]), "{points:?}");
}

#[test]
fn of_long_texts_the_beginning_is_kept() {
    let sampler = Sampler::new(Kind::Text, 64);
    let texts = (0..64).map(|row| format!("{row:02}{}", "ä".repeat(1_000)));
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    sampler.sender().see(&column).unwrap();
    let points = sampler.draw(2).unwrap();
    let SplitPoints::Texts(found) = &points else { panic!("of texts") };
    assert!(found.len() == 1 && found[0].starts_with("32") && found[0].len() <= TEXT_BYTES, "{found:?}");
    assert_eq!(shares(&points, &column, 2), [32, 32]);
}

#[test]
fn a_column_that_cannot_be_cut_is_refused() {
    let column: ArrayRef = Arc::new(arrow_array::BooleanArray::from(vec![true]));
    assert!(Sampler::new(Kind::Int64, 64).sender().see(&column).is_err());
    assert!(!Sampler::fits(Kind::Boolean) && Sampler::fits(Kind::Text));
}

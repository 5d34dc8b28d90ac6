//! An ordered set of small values in leaves, which a frozen copy shares until they are next written.
//!
//! What a `BTreeSet` does, but that a copy of it takes time by its leaves and not by its values.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunks::next_freezing;

/// Values of a full leaf. A write after a freezing copies one.
const LEAF: usize = 512;

/// The set.
#[derive(Clone, Debug)]
pub(crate) struct SharedSet<T> {
    leaves: VecDeque<Leaf<T>>,
    len: usize,
}

/// Some neighbours, ascending; never none.
#[derive(Clone, Debug)]
pub(crate) struct Leaf<T> {
    first: T,
    /// of the freezing since which it has not been written; 0: it has been, or was never frozen
    number: u64,
    values: Arc<Vec<T>>,
}

impl<T> Default for SharedSet<T> {
    fn default() -> Self {
        Self { leaves: VecDeque::new(), len: 0 }
    }
}

impl<T: Copy + Ord> Leaf<T> {
    fn new(values: Vec<T>) -> Option<Self> {
        Some(Self { first: *values.first()?, number: 0, values: Arc::new(values) })
    }

    fn write(&mut self) -> &mut Vec<T> {
        self.number = 0;
        Arc::make_mut(&mut self.values)
    }

    /// Of a frozen leaf: what tells it from all others of this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its values, ascending.
    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }
}

impl<T: Copy + Ord> SharedSet<T> {
    /// Of values that ascend.
    pub(crate) fn from_sorted(values: impl Iterator<Item = T>) -> Self {
        let mut set = Self::default();
        let mut leaf = Vec::with_capacity(LEAF);
        for value in values {
            leaf.push(value);
            set.len += 1;
            if leaf.len() == LEAF {
                set.leaves.extend(Leaf::new(std::mem::replace(&mut leaf, Vec::with_capacity(LEAF))));
            }
        }
        set.leaves.extend(Leaf::new(leaf));
        set
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The least.
    pub(crate) fn first(&self) -> Option<T> {
        self.leaves.front().map(|leaf| leaf.first)
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.leaves.iter().flat_map(|leaf| leaf.values.iter().copied())
    }

    /// The leaf that has `value` or would have it.
    fn leaf_of(&self, value: &T) -> usize {
        self.leaves.partition_point(|leaf| leaf.first <= *value).saturating_sub(1)
    }

    /// Adds a value. False where it is there.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        let at = self.leaf_of(&value);
        let is_last = at + 1 == self.leaves.len();
        let Some(leaf) = self.leaves.get_mut(at) else {
            self.leaves.extend(Leaf::new(vec![value]));
            self.len += 1;
            return true;
        };
        let Err(place) = leaf.values.binary_search(&value) else { return false };
        self.len += 1;
        if leaf.values.len() < LEAF {
            leaf.write().insert(place, value);
            leaf.first = leaf.first.min(value);
            return true;
        }
        // rising values fill leaves, others halve them
        let upper = if is_last && place == LEAF {
            vec![value]
        } else {
            let lower = leaf.write();
            let mut upper = lower.split_off(LEAF / 2);
            match place.checked_sub(LEAF / 2) {
                Some(place) => upper.insert(place, value),
                None => lower.insert(place, value),
            }
            leaf.first = leaf.first.min(value);
            upper
        };
        if let Some(upper) = Leaf::new(upper) {
            self.leaves.insert(at + 1, upper);
        }
        true
    }

    /// Takes a value away. False where it is not there.
    pub(crate) fn remove(&mut self, value: &T) -> bool {
        let at = self.leaf_of(value);
        let Some(leaf) = self.leaves.get_mut(at) else { return false };
        let Ok(place) = leaf.values.binary_search(value) else { return false };
        let values = leaf.write();
        values.remove(place);
        let left = values.len();
        match values.first().copied() {
            Some(first) => leaf.first = first,
            None => drop(self.leaves.remove(at)),
        }
        self.len -= 1;
        if left > 0 && left < LEAF / 8 {
            self.join_next(at);
            self.join_next(at.saturating_sub(1));
        }
        true
    }

    /// Makes one leaf of a small one and the next, if that is not large.
    fn join_next(&mut self, at: usize) {
        let both = self.leaves.get(at).zip(self.leaves.get(at + 1));
        if both.is_none_or(|(one, next)| one.values.len() + next.values.len() > LEAF / 2) {
            return;
        }
        if let Some(next) = self.leaves.remove(at + 1)
            && let Some(leaf) = self.leaves.get_mut(at)
        {
            leaf.write().extend_from_slice(&next.values);
        }
    }

    /// Takes all values out up to `last`, this included.
    pub(crate) fn take_to(&mut self, last: &T) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(leaf) = self.leaves.front_mut().filter(|leaf| leaf.first <= *last) {
            let count = leaf.values.partition_point(|value| value <= last);
            if count < leaf.values.len() {
                taken.extend(leaf.write().drain(..count));
                leaf.values.first().into_iter().for_each(|first| leaf.first = *first);
                break;
            }
            taken.extend_from_slice(&leaf.values);
            self.leaves.pop_front();
        }
        self.len -= taken.len();
        taken
    }

    /// The leaves as of now, which are shared.
    pub(crate) fn freeze(&mut self) -> Vec<Leaf<T>> {
        for leaf in self.leaves.iter_mut().filter(|leaf| leaf.number == 0) {
            leaf.number = next_freezing();
        }
        self.leaves.iter().cloned().collect()
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        let leaves = self.leaves.iter().map(|leaf| leaf.values.capacity() * size_of::<T>() + 48).sum::<usize>();
        leaves + self.leaves.capacity() * size_of::<Leaf<T>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_in_order_whatever_is_done_to_it(
            changes in prop::collection::vec((0u8..10, 0u32..3_000), 1..6_000),
        ) {
            let (mut set, mut model) = (SharedSet::default(), BTreeSet::new());
            for (what, value) in changes {
                match what {
                    0..6 => prop_assert_eq!(set.insert(value), model.insert(value)),
                    6 => drop(set.freeze()),
                    7 if value < 30 => {
                        let later = model.split_off(&(value * 20 + 1));
                        let taken: Vec<u32> = std::mem::replace(&mut model, later).into_iter().collect();
                        prop_assert_eq!(set.take_to(&(value * 20)), taken);
                    }
                    _ => prop_assert_eq!(set.remove(&value), model.remove(&value)),
                }
                prop_assert_eq!((set.len(), set.first()), (model.len(), model.first().copied()));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!(SharedSet::from_sorted(model.iter().copied()).iter().eq(set.iter()));
        }
    }

    #[test]
    fn a_frozen_copy_shares_leaves_that_are_not_written_and_their_numbers_say_so() {
        let mut set = SharedSet::from_sorted(0..10 * LEAF as u32);
        let before = set.freeze();
        assert!(set.remove(&700));
        assert!(set.insert(u32::MAX));
        let after = set.freeze();
        let same = |(one, other): (&Leaf<u32>, &Leaf<u32>)| {
            assert_eq!(Arc::ptr_eq(&one.values, &other.values), one.number() == other.number());
            one.number() == other.number()
        };
        let shared: Vec<bool> = before.iter().zip(&after).map(same).collect();
        assert_eq!(shared, [true, false, true, true, true, true, true, true, true, true]);
        assert!(before.iter().flat_map(|leaf| leaf.values()).copied().eq(0..10 * LEAF as u32));
        let numbers: BTreeSet<u64> = before.iter().chain(&after).map(Leaf::number).collect();
        assert_eq!((numbers.len(), after.len()), (12, 11));
    }

    #[test]
    fn few_values_that_stay_do_not_keep_many_leaves() {
        let mut set = SharedSet::from_sorted(0..100 * LEAF as u32);
        (0..100 * LEAF as u32).filter(|value| value % 100 != 0).for_each(|value| assert!(set.remove(&value)));
        assert!(set.leaves.len() < 20, "{} leaves", set.leaves.len());
    }
}

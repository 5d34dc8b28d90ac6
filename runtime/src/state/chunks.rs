//! Values by slot, in chunks, which a frozen copy shares until they are next written.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prefetch::prefetch;

/// Slots in a chunk. Larger ones make the first write after a snapshot dearer (72 ms instead of 15 at 10 million keys
/// with 4,096), and sparse columns larger.
pub const CHUNK_ROWS: usize = 256;

const SHIFT: u32 = CHUNK_ROWS.trailing_zeros();

/// A column of `T` by slot. Chunks exist where [`Chunked::allocate`] or [`Chunked::set`] made them; elsewhere there
/// are no values.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    chunks: Vec<Chunk<T>>,
    fill: T,
}

#[derive(Clone, Debug, Default)]
enum Chunk<T> {
    #[default]
    None,
    Own(Box<[T; CHUNK_ROWS]>),
    /// shared with a frozen copy, or once shared and not written since
    Frozen(Arc<Frozen<T>>),
}

#[derive(Debug)]
struct Frozen<T> {
    /// of the [`Chunked::freeze`] that it was frozen by
    number: u64,
    /// boxed, so that it is taken back without a copy once the frozen copy is gone
    values: Box<[T; CHUNK_ROWS]>,
}

/// Numbers every freezing of a column in this process; 0 is none.
static FREEZINGS: AtomicU64 = AtomicU64::new(1);

/// A number that nothing else of this process has.
pub(crate) fn next_freezing() -> u64 {
    FREEZINGS.fetch_add(1, Ordering::Relaxed)
}

impl<T: Clone> Chunk<T> {
    #[inline]
    fn values(&self) -> Option<&[T; CHUNK_ROWS]> {
        match self {
            Self::None => None,
            Self::Own(values) => Some(values),
            Self::Frozen(frozen) => Some(&frozen.values),
        }
    }

    #[inline]
    fn values_mut(&mut self) -> Option<&mut [T; CHUNK_ROWS]> {
        if let Self::Frozen(_) = self {
            self.thaw();
        }
        match self {
            Self::Own(values) => Some(values),
            _ => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn thaw(&mut self) {
        if let Self::Frozen(frozen) = std::mem::take(self) {
            let taken = Arc::try_unwrap(frozen).map(|frozen| frozen.values);
            *self = Self::Own(taken.unwrap_or_else(|shared| shared.values.clone()));
        }
    }

    fn freeze(&mut self, number: u64) -> Self {
        *self = match std::mem::take(self) {
            Self::Own(values) => Self::Frozen(Arc::new(Frozen { number, values })),
            other => other,
        };
        self.clone()
    }
}

impl<T: Clone> Chunked<T> {
    /// No chunks; new ones will hold `fill`.
    pub fn new(fill: T) -> Self {
        Self { chunks: Vec::new(), fill }
    }

    /// The chunk of a slot.
    #[inline]
    pub fn chunk_of(slot: u32) -> usize {
        (slot >> SHIFT) as usize
    }

    /// The first slot of a chunk.
    pub fn first_slot(chunk: usize) -> u32 {
        (chunk << SHIFT) as u32
    }

    /// Whether the chunk exists.
    #[inline]
    pub fn has(&self, chunk: usize) -> bool {
        self.chunks.get(chunk).is_some_and(|chunk| !matches!(chunk, Chunk::None))
    }

    /// Makes the chunk, if it does not exist.
    pub fn allocate(&mut self, chunk: usize) {
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, Chunk::default);
        }
        if let Some(place @ Chunk::None) = self.chunks.get_mut(chunk) {
            let values = vec![self.fill.clone(); CHUNK_ROWS].into_boxed_slice().try_into();
            *place = values.map_or(Chunk::None, Chunk::Own);
        }
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.chunks.get(Self::chunk_of(slot))?.values()?;
        Some(&chunk[slot as usize % CHUNK_ROWS])
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(Self::chunk_of(slot))?.values_mut()?;
        Some(&mut chunk[slot as usize % CHUNK_ROWS])
    }

    /// Asks for the cache line of a slot's value; answers whether its chunk exists.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) -> bool {
        let Some(chunk) = self.chunks.get(Self::chunk_of(slot)).and_then(Chunk::values) else { return false };
        prefetch(chunk.as_slice(), slot as usize % CHUNK_ROWS);
        true
    }

    /// Sets the value of a slot and makes its chunk if need be.
    pub fn set(&mut self, slot: u32, value: T) {
        self.allocate(Self::chunk_of(slot));
        if let Some(place) = self.get_mut(slot) {
            *place = value;
        }
    }

    /// The chunks that exist, with their numbers, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &[T; CHUNK_ROWS])> {
        self.chunks.iter().enumerate().filter_map(|(number, chunk)| Some((number, chunk.values()?)))
    }

    /// The values of all chunks, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().filter_map(Chunk::values_mut).flatten()
    }

    /// One more than the number of the last chunk that ever was.
    pub(crate) fn chunks_end(&self) -> usize {
        self.chunks.len()
    }

    /// A copy as of now. Chunks are shared: one that is written to later is copied then, if this copy is still there.
    pub fn freeze(&mut self) -> Self {
        let number = next_freezing();
        let chunks = self.chunks.iter_mut().map(|chunk| chunk.freeze(number)).collect();
        Self { chunks, fill: self.fill.clone() }
    }

    /// Of a frozen copy: what tells these chunks from what they have held before, and from those of all other columns of
    /// this process. Where these numbers are the same the values are.
    pub(crate) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        to.extend(chunks.map(|chunk| match self.chunks.get(chunk) {
            Some(Chunk::Frozen(frozen)) => frozen.number,
            _ => 0,
        }));
    }

    /// Bytes of the chunks, without what their values point to.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks().count();
        self.chunks.capacity() * size_of::<Chunk<T>>() + chunks * CHUNK_ROWS * size_of::<T>()
    }

    /// Moves values from old to new slots; those of all other slots are dropped. A value whose old chunk does not exist
    /// is not moved.
    pub fn renumber(&mut self, moves: &[(u32, u32)]) {
        let mut moved = Self::new(self.fill.clone());
        for (old, new) in moves {
            let fill = self.fill.clone();
            if let Some(value) = self.get_mut(*old) {
                moved.set(*new, std::mem::replace(value, fill));
            }
        }
        *self = moved;
    }

    /// Takes the values of `slots` out, which stay at the same slots; here they are as new.
    pub fn split_off(&mut self, slots: &[u32]) -> Self {
        let mut taken = Self::new(self.fill.clone());
        for slot in slots {
            let fill = self.fill.clone();
            if let Some(value) = self.get_mut(*slot) {
                taken.set(*slot, std::mem::replace(value, fill));
            }
        }
        taken
    }

    /// What new chunks hold.
    pub(super) fn fill(&self) -> &T {
        &self.fill
    }

    /// What new chunks hold from now on, and what slots that are `stale` hold at once.
    pub fn refill(&mut self, fill: T, stale: impl Fn(u32) -> bool) {
        for (chunk, values) in self.chunks.iter_mut().enumerate() {
            let slots = (Self::first_slot(chunk)..).take(CHUNK_ROWS);
            if !slots.clone().any(&stale) {
                continue;
            }
            for (slot, value) in slots.zip(values.values_mut().into_iter().flatten()) {
                if stale(slot) {
                    *value = fill.clone();
                }
            }
        }
        self.fill = fill;
    }
}

#[cfg(test)]
mod tests {
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
}

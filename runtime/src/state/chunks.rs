//! Values by slot, in chunks.

use super::prefetch::prefetch;

/// Slots in a chunk. Larger ones make the first write after a snapshot dearer (72 ms instead of 15 at 10 million keys
/// with 4,096), and sparse columns larger.
pub const CHUNK_ROWS: usize = 256;

const SHIFT: u32 = CHUNK_ROWS.trailing_zeros();

/// A column of `T` by slot. Chunks exist where [`Chunked::allocate`] or [`Chunked::set`] made them; elsewhere there
/// are no values.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    chunks: Vec<Option<Box<[T; CHUNK_ROWS]>>>,
    fill: T,
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
        matches!(self.chunks.get(chunk), Some(Some(_)))
    }

    /// Makes the chunk, if it does not exist.
    pub fn allocate(&mut self, chunk: usize) {
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        if let Some(place @ None) = self.chunks.get_mut(chunk) {
            *place = vec![self.fill.clone(); CHUNK_ROWS].into_boxed_slice().try_into().ok();
        }
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.chunks.get(Self::chunk_of(slot))?.as_deref()?;
        Some(&chunk[slot as usize % CHUNK_ROWS])
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(Self::chunk_of(slot))?.as_deref_mut()?;
        Some(&mut chunk[slot as usize % CHUNK_ROWS])
    }

    /// Asks for the cache line of a slot's value; answers whether its chunk exists.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) -> bool {
        let Some(Some(chunk)) = self.chunks.get(Self::chunk_of(slot)) else { return false };
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
        self.chunks.iter().enumerate().filter_map(|(number, chunk)| Some((number, chunk.as_deref()?)))
    }

    /// Bytes of the chunks, without what their values point to.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        self.chunks.capacity() * size_of::<usize>() + chunks * CHUNK_ROWS * size_of::<T>()
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
            for (slot, value) in (Self::first_slot(chunk)..).zip(values.iter_mut().flat_map(|values| values.iter_mut()))
            {
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

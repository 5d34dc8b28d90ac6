//! Values by slot, in chunks, which a frozen copy shares until they are next written.

mod group;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use group::{GROUP_CHUNKS, Group, Values};

use super::prefetch::prefetch;

/// Slots in a chunk. Larger ones make the first write after a snapshot dearer (72 ms instead of 15 at 10 million keys
/// with 4,096), and sparse columns larger.
pub const CHUNK_ROWS: usize = 256;

const SHIFT: u32 = CHUNK_ROWS.trailing_zeros();

/// A column of `T` by slot. Chunks exist where [`Chunked::allocate`] or [`Chunked::set`] made them; elsewhere there
/// are no values.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    /// chunks that no frozen copy has; none of these where it is frozen, or not there
    own: Vec<Option<Values<T>>>,
    /// the others: shared with a frozen copy, or once shared and not written since
    frozen: Vec<Option<Arc<Group<T>>>>,
    /// one more than the number of the last chunk that ever was
    end: usize,
    /// memory for chunks that are copied, of chunks that were: a copy would otherwise wait for the allocator, which the
    /// thread that writes a checkpoint keeps busy
    spare: Vec<Values<T>>,
    fill: T,
}

/// Numbers every freezing of a column in this process; 0 is none.
static FREEZINGS: AtomicU64 = AtomicU64::new(1);

/// A number that nothing else of this process has.
pub(crate) fn next_freezing() -> u64 {
    FREEZINGS.fetch_add(1, Ordering::Relaxed)
}

impl<T: Clone> Chunked<T> {
    /// No chunks; new ones will hold `fill`.
    pub fn new(fill: T) -> Self {
        Self { own: Vec::new(), frozen: Vec::new(), end: 0, spare: Vec::new(), fill }
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
        self.values(chunk).is_some()
    }

    /// Makes the chunk, if it does not exist.
    pub fn allocate(&mut self, chunk: usize) {
        if !self.has(chunk) {
            let values = vec![self.fill.clone(); CHUNK_ROWS].into_boxed_slice().try_into();
            self.put(chunk, values.ok());
        }
    }

    fn put(&mut self, chunk: usize, values: Option<Values<T>>) {
        self.end = self.end.max(chunk + 1);
        if self.own.len() < self.end {
            self.own.resize_with(self.end, || None);
        }
        if let Some(place) = self.own.get_mut(chunk) {
            *place = values;
        }
    }

    #[inline]
    fn values(&self, chunk: usize) -> Option<&[T; CHUNK_ROWS]> {
        match self.own.get(chunk) {
            Some(Some(values)) => Some(values),
            _ => self.frozen_values(chunk),
        }
    }

    #[inline(never)]
    fn frozen_values(&self, chunk: usize) -> Option<&[T; CHUNK_ROWS]> {
        let group = self.frozen.get(chunk / GROUP_CHUNKS)?.as_ref();
        group::get(group, chunk % GROUP_CHUNKS).map(AsRef::as_ref)
    }

    #[inline]
    fn values_mut(&mut self, chunk: usize) -> Option<&mut [T; CHUNK_ROWS]> {
        if !matches!(self.own.get(chunk), Some(Some(_))) {
            self.thaw(chunk);
        }
        self.own.get_mut(chunk)?.as_deref_mut()
    }

    #[cold]
    #[inline(never)]
    fn thaw(&mut self, chunk: usize) {
        let group = self.frozen.get_mut(chunk / GROUP_CHUNKS).and_then(Option::as_mut);
        if let Some(values) = group::thaw(group, chunk % GROUP_CHUNKS, &mut self.spare) {
            self.put(chunk, Some(values));
        }
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.values(Self::chunk_of(slot))?;
        Some(&chunk[slot as usize % CHUNK_ROWS])
    }

    /// The value of a slot, if its chunk exists.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.values_mut(Self::chunk_of(slot))?;
        Some(&mut chunk[slot as usize % CHUNK_ROWS])
    }

    /// The values of `slots`, none where their chunks do not exist. A chunk is looked for once for neighbours.
    pub(crate) fn of_slots<'a>(&'a self, slots: &'a [u32]) -> impl Iterator<Item = Option<&'a T>> {
        let mut chunk: Option<(usize, Option<&[T; CHUNK_ROWS]>)> = None;
        slots.iter().map(move |slot| {
            let number = Self::chunk_of(*slot);
            let values = match chunk {
                Some((known, values)) if known == number => values,
                _ => {
                    let values = self.values(number);
                    chunk = Some((number, values));
                    values
                }
            };
            values.map(|values| &values[*slot as usize % CHUNK_ROWS])
        })
    }

    /// Asks for the cache line of a slot's value; answers whether its chunk exists.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) -> bool {
        let Some(chunk) = self.values(Self::chunk_of(slot)) else { return false };
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
        self.chunks_from(0)
    }

    /// Those whose numbers are not below `first`.
    pub fn chunks_from(&self, first: usize) -> impl Iterator<Item = (usize, &[T; CHUNK_ROWS])> {
        (first..self.end).filter_map(|number| Some((number, self.values(number)?)))
    }

    /// The values of all chunks, to be changed.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        (0..self.end).for_each(|chunk| _ = self.values_mut(chunk));
        self.own.iter_mut().flatten().flat_map(|values| values.iter_mut())
    }

    /// One more than the number of the last chunk that ever was.
    pub(crate) fn chunks_end(&self) -> usize {
        self.end
    }

    /// A copy as of now. Chunks are shared: one that is written to later is copied then, if this copy is still there. Takes time by
    /// the number of chunks that have been written since the last copy, some nanoseconds each, and allocates nothing for them.
    pub fn freeze(&mut self) -> Self {
        let number = next_freezing();
        // what the time since the last copy did not need goes with this one, to be freed elsewhere
        let spare = std::mem::take(&mut self.spare);
        self.frozen.resize_with(self.end.div_ceil(GROUP_CHUNKS), || None);
        for (group, own) in self.frozen.iter_mut().zip(self.own.chunks_mut(GROUP_CHUNKS)) {
            group::freeze(group, own, number, &mut self.spare);
        }
        Self { own: Vec::new(), frozen: self.frozen.clone(), end: self.end, spare, fill: self.fill.clone() }
    }

    /// Of a frozen copy: what tells these chunks from what they have held before, and from those of all other columns of
    /// this process. Where these numbers are the same the values are.
    pub(crate) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        to.extend(chunks.map(|chunk| {
            let group = self.frozen.get(chunk / GROUP_CHUNKS).and_then(Option::as_ref);
            group::number(group, chunk % GROUP_CHUNKS)
        }));
    }

    /// Bytes of the chunks, without what their values point to. The same whether there are copies or not: what an operator does
    /// by its memory must not hang on when checkpoints are taken.
    pub fn bytes(&self) -> usize {
        self.end * size_of::<Option<Values<T>>>() + self.chunks().count() * CHUNK_ROWS * size_of::<T>()
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
        for chunk in 0..self.end {
            let slots = (Self::first_slot(chunk)..).take(CHUNK_ROWS);
            if !slots.clone().any(&stale) {
                continue;
            }
            for (slot, value) in slots.zip(self.values_mut(chunk).into_iter().flatten()) {
                if stale(slot) {
                    *value = fill.clone();
                }
            }
        }
        self.fill = fill;
    }
}

#[cfg(test)]
mod tests;

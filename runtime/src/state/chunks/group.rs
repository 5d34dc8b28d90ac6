//! Chunks that a column shares with its frozen copies, some at a time, so that freezing takes no longer for the values
//! that have not changed.
//!
//! ```text
//!   column   own chunks:  .  A'  .  .      written since the last freezing; freezing moves them into the group
//!                │
//!   group ◀──────┴── copy      A  B  C  D
//! ```
//!
//! While a copy is there its group stays as it is, and the next freezing puts a group of what has changed in front of it; once it
//! is gone the two become one again.

use std::sync::Arc;

use super::CHUNK_ROWS;

/// Chunks in a group.
pub(super) const GROUP_CHUNKS: usize = 64;

/// Groups that may lie behind each other before their values are copied into one. Copies overlap where a checkpoint is written
/// slowly and something else asks for the state meanwhile.
const DEPTH_MAX: usize = 16;

pub(super) type Values<T> = Box<[T; CHUNK_ROWS]>;

/// Chunks that do not change while more than one column has them.
#[derive(Clone, Debug)]
pub(super) struct Group<T> {
    chunks: [Option<Values<T>>; GROUP_CHUNKS],
    /// by chunk: the freezing by which it came here
    numbers: [u64; GROUP_CHUNKS],
    /// where the others are
    behind: Option<Arc<Self>>,
}

/// The chunk at `at` of a place for a group.
#[inline]
pub(super) fn get<T>(group: Option<&Arc<Group<T>>>, at: usize) -> Option<&Values<T>> {
    let mut next = group;
    while let Some(group) = next {
        if let Some(Some(values)) = group.chunks.get(at) {
            return Some(values);
        }
        next = group.behind.as_ref();
    }
    None
}

/// The freezing by which the chunk came here; 0 if it is not here.
pub(super) fn number<T>(group: Option<&Arc<Group<T>>>, at: usize) -> u64 {
    let mut next = group;
    while let Some(group) = next {
        if let (Some(Some(_)), Some(number)) = (group.chunks.get(at), group.numbers.get(at)) {
            return *number;
        }
        next = group.behind.as_ref();
    }
    0
}

/// The chunk for its column alone: taken out where no copy has the group, else copied, into `spare` if there is one.
pub(super) fn thaw<T: Clone>(
    group: Option<&mut Arc<Group<T>>>,
    at: usize,
    spare: &mut Vec<Values<T>>,
) -> Option<Values<T>> {
    let group = group?;
    if let Some(alone) = Arc::get_mut(group)
        && let Some(place @ Some(_)) = alone.chunks.get_mut(at)
    {
        return place.take();
    }
    let shared = get(Some(group), at)?;
    Some(match spare.pop() {
        Some(mut values) => {
            values.clone_from(shared);
            values
        }
        None => shared.clone(),
    })
}

/// Moves a column's own chunks into the group at its place; those that they replace become spare.
pub(super) fn freeze<T: Clone>(
    place: &mut Option<Arc<Group<T>>>,
    own: &mut [Option<Values<T>>],
    number: u64,
    spare: &mut Vec<Values<T>>,
) {
    if own.iter().all(Option::is_none) {
        return;
    }
    if let Some(alone) = place.as_mut().and_then(Arc::get_mut) {
        alone.unite(spare);
        alone.put(own, number, spare);
        return;
    }
    let mut front = Group { chunks: [const { None }; GROUP_CHUNKS], numbers: [0; GROUP_CHUNKS], behind: place.take() };
    front.put(own, number, spare);
    if front.depth() > DEPTH_MAX {
        front.flatten();
    }
    *place = Some(Arc::new(front));
}

impl<T: Clone> Group<T> {
    fn put(&mut self, own: &mut [Option<Values<T>>], number: u64, spare: &mut Vec<Values<T>>) {
        for ((own, place), of) in own.iter_mut().zip(&mut self.chunks).zip(&mut self.numbers) {
            if own.is_some() {
                spare.extend(std::mem::replace(place, own.take()));
                *of = number;
            }
        }
    }

    /// Takes over the groups behind that no copy has any more.
    fn unite(&mut self, spare: &mut Vec<Values<T>>) {
        while let Some(behind) = self.behind.take() {
            match Arc::try_unwrap(behind) {
                Ok(behind) => {
                    let all = self
                        .chunks
                        .iter_mut()
                        .zip(&mut self.numbers)
                        .zip(behind.chunks.into_iter().zip(behind.numbers));
                    for ((place, number), (values, of)) in all {
                        if place.is_none() {
                            (*place, *number) = (values, of);
                        } else {
                            spare.extend(values);
                        }
                    }
                    self.behind = behind.behind;
                }
                Err(shared) => {
                    self.behind = Some(shared);
                    return;
                }
            }
        }
    }

    fn depth(&self) -> usize {
        std::iter::successors(self.behind.as_ref(), |group| group.behind.as_ref()).count()
    }

    /// Copies what lies behind.
    fn flatten(&mut self) {
        let behind = self.behind.take();
        for at in 0..GROUP_CHUNKS {
            if let (Some(place @ None), Some(of)) = (self.chunks.get_mut(at), self.numbers.get_mut(at)) {
                *place = get(behind.as_ref(), at).cloned();
                *of = number(behind.as_ref(), at);
            }
        }
    }
}

//! Open windows by place.

use super::{EventTime, NOWHERE, OpenWindow};
use crate::state::Chunked;

/// Windows, each with a place of its own; that of one that is gone is given out anew. A frozen copy shares them.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Places {
    windows: Chunked<OpenWindow>,
    len: u32,
    free: Vec<u32>,
}

impl OpenWindow {
    /// What is in no place.
    pub(super) const NONE: Self = Self {
        key: u32::MAX,
        bounds: NOWHERE,
        rows: 0,
        fired: false,
        timer: EventTime::MAX,
        pending: 0,
        layer: 0,
        early: EventTime::MAX,
    };
}

impl Places {
    pub(super) fn new() -> Self {
        Self { windows: Chunked::new(OpenWindow::NONE), len: 0, free: Vec::new() }
    }

    /// How many places there are, those that are free among them.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many windows there are.
    pub(super) fn open(&self) -> usize {
        self.len() - self.free.len()
    }

    pub(in crate::operator) fn get(&self, place: usize) -> Option<&OpenWindow> {
        self.windows.get(u32::try_from(place).ok()?)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut OpenWindow> {
        self.windows.get_mut(u32::try_from(place).ok()?)
    }

    /// Gives a window a place.
    pub(super) fn put(&mut self, window: OpenWindow) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        });
        self.windows.set(place, window);
        place
    }

    /// These windows are gone.
    pub(super) fn give_back(&mut self, places: impl IntoIterator<Item = u32>) {
        for place in places {
            self.windows.set(place, OpenWindow::NONE);
            self.free.push(place);
        }
    }

    /// Windows are at other places, all without gaps.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        self.windows.renumber(moves);
        self.len = moves.len() as u32;
        self.free.clear();
    }

    /// Keys of the windows that have these places.
    pub(in crate::operator) fn keys(&self, places: &[u32]) -> Vec<u32> {
        places.iter().map(|place| self.get(*place as usize).map_or(u32::MAX, |window| window.key)).collect()
    }

    /// As of now.
    pub(super) fn freeze(&mut self) -> Self {
        Self { windows: self.windows.freeze(), len: self.len, free: Vec::new() }
    }

    /// As [`Chunked::marks`].
    pub(super) fn marks(&self, chunks: std::ops::Range<usize>, to: &mut Vec<u64>) {
        self.windows.marks(chunks, to);
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.windows.bytes() + self.free.capacity() * 4
    }
}

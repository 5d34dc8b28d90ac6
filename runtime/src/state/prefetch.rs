//! One hint to the processor, for tables larger than its caches.

/// How many rows ahead of the probe the hint is given.
pub(super) const AHEAD_ROWS: usize = 24;

/// Tables below this size live in the L2 cache, where the hint costs more than it saves.
pub(super) const FROM_BYTES: usize = 512 << 10;

/// Asks for the cache line of `items[index]`. Nothing happens if there is no such item.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch<T>(items: &[T], index: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    if let Some(item) = items.get(index) {
        // SAFETY: the address is that of a live reference; the instruction needs SSE, which every x86-64 has, and reads
        // and writes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast()) };
    }
}

/// Does nothing on this processor.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn prefetch<T>(_items: &[T], _index: usize) {}

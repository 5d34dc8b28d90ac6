//! An open-addressing table from packed keys to slots that looks up a batch of keys in rounds.
//!
//! In a round every key that is still looking looks at one bucket, without a branch; those that met another key go on a
//! list for the next bucket. A probe loop for each key would mispredict its exit: 7 ns a row where rounds take 3.6.
//!
//! A table that outgrows [`ONE_PART_BUCKETS`] is cut in [`PARTS`] by the high bits of the hash, and each part doubles by
//! itself, at load limits spread over 0.40 to 0.65 so that they do not all double in the same batch. One table of 10
//! million keys would stop the stream for 170 ms when it doubles; the parts take turns, under a millisecond each.
//!
//! The hash is a folded multiply, seeded for each table, so nobody can choose keys that collide. Slots do not depend on it.

use std::hash::{BuildHasher, RandomState};

use super::prefetch::{AHEAD_ROWS, FROM_BYTES, prefetch};

/// The slot of a key that is not in the table, and of a bucket without a key.
pub(crate) const NO_SLOT: u32 = u32::MAX;

const FIRST_BUCKETS: usize = 256;
const ONE_PART_BUCKETS: usize = 1 << 16;
const PART_BITS: u32 = 8;
const PARTS: usize = 1 << PART_BITS;

/// A key that fits in a bucket.
pub(super) trait Packed: Copy + Eq + Default {
    /// Well mixed in its high and low bits.
    fn hash(self, seed: [u64; 2]) -> u64;
}

impl Packed for u64 {
    #[inline(always)]
    fn hash(self, seed: [u64; 2]) -> u64 {
        folded_multiply(self ^ seed[0], seed[1])
    }
}

impl Packed for u128 {
    #[inline(always)]
    fn hash(self, seed: [u64; 2]) -> u64 {
        let first = folded_multiply(self as u64 ^ seed[0], seed[1]);
        folded_multiply(first ^ (self >> 64) as u64 ^ seed[1], 0x9e37_79b9_7f4a_7c15)
    }
}

#[inline(always)]
fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket<K> {
    key: K,
    slot: u32,
}

/// A power of two of buckets. At least a third of them is empty.
#[derive(Debug)]
struct Part<K> {
    buckets: Box<[Bucket<K>]>,
    used: usize,
    limit: usize,
}

/// The table.
#[derive(Debug)]
pub(super) struct Rounds<K> {
    parts: Vec<Part<K>>,
    buckets: usize,
    seed: [u64; 2],
    hashes: Vec<u64>,
    looking: Vec<u32>,
}

impl<K: Packed> Part<K> {
    /// `number` decides how full it may become.
    fn new(buckets: usize, number: usize) -> Self {
        let buckets = buckets.next_power_of_two();
        // parts that are neighbours get limits far apart: 0.40, 0.525, 0.4625, ..
        let spread = (number as u8).reverse_bits();
        let limit = if number == 0 { buckets / 2 } else { buckets * (102 + spread as usize / 4) / 256 };
        Self { buckets: vec![Bucket { key: K::default(), slot: NO_SLOT }; buckets].into(), used: 0, limit }
    }

    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn bucket(&self, place: u64) -> Bucket<K> {
        match self.buckets.get(self.place(place)) {
            Some(bucket) => *bucket,
            None => Bucket { key: K::default(), slot: NO_SLOT },
        }
    }

    /// Puts in a key that is not there.
    fn insert(&mut self, hash: u64, key: K, slot: u32) {
        let mut place = hash;
        while self.bucket(place).slot != NO_SLOT {
            place = place.wrapping_add(1);
        }
        let place = self.place(place);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket = Bucket { key, slot };
            self.used += 1;
        }
    }

    fn keys(&self) -> impl Iterator<Item = (K, u32)> {
        self.buckets.iter().filter(|bucket| bucket.slot != NO_SLOT).map(|bucket| (bucket.key, bucket.slot))
    }
}

impl<K: Packed> Rounds<K> {
    /// An empty table.
    pub(super) fn new() -> Self {
        Self::with_room(0)
    }

    /// An empty table that takes about `keys` keys before it grows.
    pub(super) fn with_room(keys: usize) -> Self {
        let random = RandomState::new();
        // an odd multiplier with bits everywhere
        let seed = [random.hash_one(0_u8), random.hash_one(1_u8) | 1];
        let buckets = (keys * 2).next_power_of_two().max(FIRST_BUCKETS);
        let parts: Vec<_> = if buckets <= ONE_PART_BUCKETS {
            vec![Part::new(buckets, 0)]
        } else {
            (0..PARTS).map(|number| Part::new(buckets / PARTS, number)).collect()
        };
        let buckets = parts.iter().map(|part| part.buckets.len()).sum();
        Self { parts, buckets, seed, hashes: Vec::new(), looking: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.buckets * size_of::<Bucket<K>>() + self.hashes.capacity() * 8 + self.looking.capacity() * 4
    }

    /// The slot of every key, [`NO_SLOT`] where it is not in the table. `slots` is cleared first.
    pub(super) fn find(&mut self, keys: &[K], slots: &mut Vec<u32>) {
        let seed = self.seed;
        self.hashes.clear();
        self.hashes.extend(keys.iter().map(|key| key.hash(seed)));
        slots.clear();
        slots.resize(keys.len(), NO_SLOT);
        self.looking.resize(keys.len().max(self.looking.len()), 0);
        let mut looking = std::mem::take(&mut self.looking);
        let mut count = self.first_round(keys, slots, &mut looking);
        let mut round = 1;
        while count > 0 {
            count = self.next_round(round, keys, slots, looking.get_mut(..count).unwrap_or_default());
            round += 1;
        }
        self.looking = looking;
    }

    fn first_round(&self, keys: &[K], slots: &mut [u32], looking: &mut [u32]) -> usize {
        let bucket_bytes = size_of::<Bucket<K>>();
        let far = self.buckets * bucket_bytes >= FROM_BYTES;
        match self.parts.as_slice() {
            [part] if far => self.look(keys, slots, looking, |_| part, true),
            [part] => self.look(keys, slots, looking, |_| part, false),
            parts => {
                let Some(first) = parts.first() else { return 0 };
                self.look(keys, slots, looking, |hash| parts.get(part_of(hash)).unwrap_or(first), true)
            }
        }
    }

    #[inline(always)]
    fn look<'a>(
        &self,
        keys: &[K],
        slots: &mut [u32],
        looking: &mut [u32],
        part: impl Fn(u64) -> &'a Part<K>,
        far: bool,
    ) -> usize
    where
        K: 'a,
    {
        let mut count = 0;
        for (row, ((key, hash), slot)) in keys.iter().zip(&self.hashes).zip(slots).enumerate() {
            if far && let Some(ahead) = self.hashes.get(row + AHEAD_ROWS) {
                let part = part(*ahead);
                prefetch(&part.buckets, part.place(*ahead));
            }
            let bucket = part(*hash).bucket(*hash);
            let same = bucket.key == *key;
            // an empty bucket has no slot, so its key may be anything
            *slot = if same { bucket.slot } else { NO_SLOT };
            if let Some(next) = looking.get_mut(count) {
                *next = row as u32;
            }
            count += usize::from(!same & (bucket.slot != NO_SLOT));
        }
        count
    }

    /// Looks `round` buckets further for the rows on the list; keeps those on it that must look again.
    fn next_round(&self, round: u64, keys: &[K], slots: &mut [u32], looking: &mut [u32]) -> usize {
        let mut count = 0;
        for at in 0..looking.len() {
            let Some(row) = looking.get(at).copied() else { continue };
            let (Some(key), Some(hash)) = (keys.get(row as usize), self.hashes.get(row as usize)) else { continue };
            let Some(part) = self.part(*hash) else { continue };
            let bucket = part.bucket(hash.wrapping_add(round));
            let same = bucket.key == *key;
            if let Some(slot) = slots.get_mut(row as usize) {
                *slot = if same { bucket.slot } else { NO_SLOT };
            }
            if let Some(next) = looking.get_mut(count) {
                *next = row;
            }
            count += usize::from(!same & (bucket.slot != NO_SLOT));
        }
        count
    }

    #[inline(always)]
    fn part(&self, hash: u64) -> Option<&Part<K>> {
        if self.parts.len() == 1 { self.parts.first() } else { self.parts.get(part_of(hash)) }
    }

    /// The slot of one key.
    pub(super) fn get(&self, key: K) -> Option<u32> {
        let mut place = key.hash(self.seed);
        let part = self.part(place)?;
        loop {
            let bucket = part.bucket(place);
            if bucket.slot == NO_SLOT {
                return None;
            }
            if bucket.key == key {
                return Some(bucket.slot);
            }
            place = place.wrapping_add(1);
        }
    }

    /// Puts in a key that is not there.
    pub(super) fn insert(&mut self, key: K, slot: u32) {
        let hash = key.hash(self.seed);
        let number = if self.parts.len() == 1 { 0 } else { part_of(hash) };
        if self.parts.get(number).is_some_and(|part| part.used >= part.limit) {
            self.grow(number);
        }
        let number = if self.parts.len() == 1 { 0 } else { part_of(hash) };
        if let Some(part) = self.parts.get_mut(number) {
            part.insert(hash, key, slot);
        }
    }

    fn grow(&mut self, number: usize) {
        let Some(full) = self.parts.get_mut(number) else { return };
        let buckets = full.buckets.len() * 2;
        let full = std::mem::replace(full, Part { buckets: Box::default(), used: 0, limit: 0 });
        if self.parts.len() == 1 && buckets > ONE_PART_BUCKETS {
            self.parts = (0..PARTS).map(|number| Part::new(buckets / PARTS, number)).collect();
        } else if let Some(place) = self.parts.get_mut(number) {
            *place = Part::new(buckets, number);
        }
        for (key, slot) in full.keys() {
            self.insert(key, slot);
        }
        self.buckets = self.parts.iter().map(|part| part.buckets.len()).sum();
    }
}

#[inline(always)]
fn part_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PART_BITS)) as usize
}

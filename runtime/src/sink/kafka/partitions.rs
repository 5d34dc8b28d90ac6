//! Which partition a record goes to where it is settled here: with transactions the first record of an epoch in a
//! partition carries a header, so the partition must be known before the record is sent.

/// The partitions of a topic, and which have a task's header of its epoch.
#[derive(Debug)]
pub(super) struct Partitions {
    /// whether there is a header, by partition
    headed: Vec<bool>,
    /// where records without a key go until [`Partitions::turn`]
    without_key: usize,
}

impl Partitions {
    /// Of a topic with `count` partitions. `first` spreads the tasks' records without a key.
    pub(super) fn new(count: usize, first: usize) -> Self {
        Self { headed: vec![false; count.max(1)], without_key: first % count.max(1) }
    }

    /// Records without a key go to the next partition: each of a batch to the same, which makes large requests.
    pub(super) fn turn(&mut self) {
        self.without_key = (self.without_key + 1) % self.headed.len();
    }

    /// Another epoch begins.
    pub(super) fn next_epoch(&mut self) {
        self.headed.fill(false);
    }

    /// The partition of a record: the one that other clients would choose for the key.
    pub(super) fn of(&self, key: Option<&[u8]>) -> usize {
        match key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) as usize % self.headed.len(),
            None => self.without_key,
        }
    }

    /// Whether there is a header in the partition.
    pub(super) fn is_headed(&self, partition: usize) -> bool {
        self.headed.get(partition).copied().unwrap_or(false)
    }

    /// A record with the header has gone to the partition.
    pub(super) fn note_header(&mut self, partition: usize) {
        self.headed.get_mut(partition).into_iter().for_each(|headed| *headed = true);
    }
}

/// Austin Appleby's MurmurHash2 with the seed of Kafka's clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MIX);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MIX) ^ word.wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MIX);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(MIX);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `org.apache.kafka.common.utils.Utils.murmur2` answers.
    #[test]
    fn keys_go_where_kafkas_own_clients_send_them() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
            let partition = usize::try_from(expected & 0x7fff_ffff).unwrap() % 7;
            assert_eq!(Partitions::new(7, 0).of(Some(key.as_bytes())), partition, "{key}");
        }
    }

    #[test]
    fn each_partition_needs_one_header_an_epoch() {
        let mut partitions = Partitions::new(2, 3);
        assert_eq!(partitions.of(None), 1);
        partitions.note_header(1);
        assert!(partitions.is_headed(1) && !partitions.is_headed(0));
        partitions.turn();
        assert_eq!(partitions.of(None), 0);
        partitions.next_epoch();
        assert!(!partitions.is_headed(1));
    }
}

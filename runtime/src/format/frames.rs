//! Records as bytes before they are decoded: one buffer, an end offset a record.

use crate::record::EventTime;

/// Records of one source partition, framed and not yet decoded. Reused: `clear` keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// all records, one after the other, without separators
    pub bytes: Vec<u8>,
    /// end of each record in `bytes`; its start is the end of the one before it
    pub ends: Vec<u32>,
    /// event time of each record in ms where the source knows one (Kafka), otherwise empty
    pub times: Vec<EventTime>,
    /// position of each record in its partition (Kafka offset, byte position in a file), for messages and restore
    pub offsets: Vec<u64>,
}

impl Frames {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Record `index`, empty where there is no such record.
    pub fn get(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8], offset: u64) {
        self.bytes.extend_from_slice(record);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.offsets.push(offset);
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.times.clear();
        self.offsets.clear();
    }
}

//! Columns → MessagePack maps. Nulls are nil, binary is bin, times are integers of milliseconds.

use rmp::encode::{write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str};

use crate::format::cells::{Cell, Cells};
use crate::format::encode::EncoderError;
use crate::record::Schema;

/// Encodes rows as MessagePack maps.
pub(in crate::format) struct MsgpackEncoder {
    /// the head of the map
    head: Vec<u8>,
    /// each key with its marker
    keys: Vec<Vec<u8>>,
}

impl MsgpackEncoder {
    pub(in crate::format) fn new(schema: &Schema) -> Result<Self, EncoderError> {
        let mut head = Vec::new();
        let columns = schema.fields().len();
        let length = u32::try_from(columns).map_err(|_| EncoderError::TooLarge)?;
        write_map_len(&mut head, length).map_err(|_| EncoderError::TooLarge)?;
        let keys = schema.fields().iter().map(|field| {
            let mut key = Vec::new();
            write_str(&mut key, &field.name).map_err(|_| EncoderError::TooLarge)?;
            Ok(key)
        });
        Ok(Self { head, keys: keys.collect::<Result<_, _>>()? })
    }

    /// Appends one row.
    pub(in crate::format) fn row(
        &self,
        cells: &[Cells<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), rmp::encode::ValueWriteError> {
        out.extend_from_slice(&self.head);
        for (column, key) in cells.iter().zip(&self.keys) {
            out.extend_from_slice(key);
            match column.get(row) {
                Cell::Null => write_nil(out).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite)?,
                Cell::Boolean(value) => {
                    write_bool(out, value).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite)?;
                }
                Cell::Int64(value) => drop(write_sint(out, value)?),
                Cell::Float64(value) => write_f64(out, value)?,
                Cell::Text(value) => {
                    rmp::encode::write_str_len(out, u32::try_from(value.len()).unwrap_or(u32::MAX))?;
                    out.extend_from_slice(value);
                }
                Cell::Binary(value) => write_bin(out, value)?,
            }
        }
        Ok(())
    }
}

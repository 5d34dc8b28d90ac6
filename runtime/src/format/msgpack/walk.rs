//! MessagePack by its markers: how long a value is and how many values it holds, without decoding it.

/// The head of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::format) struct Head {
    /// where the payload starts: length of marker and length bytes
    pub(in crate::format) payload: usize,
    /// length of the whole value without its children
    pub(in crate::format) size: usize,
    /// values directly inside: elements, keys and values
    pub(in crate::format) children: u64,
    /// what it is
    pub(in crate::format) shape: Shape,
}

/// What a value is, as far as a walk can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::format) enum Shape {
    /// nil, boolean, integer, float
    Scalar,
    Str,
    Bin,
    Array,
    Map,
    Ext,
    /// 0xc1, which MessagePack never uses: what follows cannot be told apart
    Never,
}

/// The head of the value at the start of `bytes`; `None` if it is not all there. The payload may be missing.
#[inline]
pub(in crate::format) fn head(bytes: &[u8]) -> Option<Head> {
    let marker = *bytes.first()?;
    let with_length = |width: usize, more: usize, shape: Shape| {
        let length = bytes.get(1..=width)?.iter().fold(0_usize, |length, &byte| length << 8 | usize::from(byte));
        let payload = 1 + width + more;
        Some(match shape {
            Shape::Array => Head { payload, size: payload, children: length as u64, shape },
            Shape::Map => Head { payload, size: payload, children: length as u64 * 2, shape },
            _ => Head { payload, size: payload + length, children: 0, shape },
        })
    };
    let scalar = |size| Some(Head { payload: 1, size, children: 0, shape: Shape::Scalar });
    let low = |mask: u8| usize::from(marker & mask);
    match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => scalar(1),
        0xa0..=0xbf => Some(Head { payload: 1, size: 1 + low(0x1f), children: 0, shape: Shape::Str }),
        0x80..=0x8f => Some(Head { payload: 1, size: 1, children: low(0x0f) as u64 * 2, shape: Shape::Map }),
        0x90..=0x9f => Some(Head { payload: 1, size: 1, children: low(0x0f) as u64, shape: Shape::Array }),
        0xc1 => Some(Head { payload: 1, size: 1, children: 0, shape: Shape::Never }),
        0xc4..=0xc6 => with_length(1 << (marker - 0xc4), 0, Shape::Bin),
        0xc7..=0xc9 => with_length(1 << (marker - 0xc7), 1, Shape::Ext),
        0xca | 0xce | 0xd2 => scalar(5),
        0xcb | 0xcf | 0xd3 => scalar(9),
        0xcc | 0xd0 => scalar(2),
        0xcd | 0xd1 => scalar(3),
        0xd4..=0xd8 => Some(Head { payload: 2, size: 2 + (1 << (marker - 0xd4)), children: 0, shape: Shape::Ext }),
        0xd9..=0xdb => with_length(1 << (marker - 0xd9), 0, Shape::Str),
        0xdc | 0xdd => with_length(2 << (marker - 0xdc), 0, Shape::Array),
        0xde | 0xdf => with_length(2 << (marker - 0xde), 0, Shape::Map),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_has_the_length_that_the_specification_gives_it() {
        let at = |bytes: &[u8]| head(bytes).map(|head| (head.size, head.children));
        for (bytes, size, children) in [
            (&[0x05_u8][..], 1, 0),
            (&[0xff], 1, 0),
            (&[0xa3], 4, 0),
            (&[0x82], 1, 4),
            (&[0x93], 1, 3),
            (&[0xc4, 200], 202, 0),
            (&[0xc5, 1, 0], 259, 0),
            (&[0xc6, 0, 1, 0, 0], 65541, 0),
            (&[0xc7, 3], 6, 0),
            (&[0xc9, 0, 0, 0, 3], 9, 0),
            (&[0xd4], 3, 0),
            (&[0xd8], 18, 0),
            (&[0xd9, 40], 42, 0),
            (&[0xdb, 0, 0, 0, 1], 6, 0),
            (&[0xdc, 0, 7], 3, 7),
            (&[0xdd, 0, 0, 0, 7], 5, 7),
            (&[0xde, 0, 7], 3, 14),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff], 5, 8_589_934_590),
        ] {
            assert_eq!(at(bytes), Some((size, children)), "{bytes:x?}");
        }
        assert_eq!(head(&[0xc5, 1]), None);
        assert_eq!(head(&[]), None);
        assert_eq!(head(&[0xc1]).map(|head| head.shape), Some(Shape::Never));
    }
}

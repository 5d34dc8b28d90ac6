//! MessagePack: one map a record, or one array in the schema's order.

mod encode;
mod skim;
mod walk;

pub(super) use encode::MsgpackEncoder;
pub(super) use skim::MsgpackDecoder;
pub(super) use walk::{Shape, head};

//! Fields that several frames have.

use bytes::{BufMut, BytesMut};

use crate::codec::{DecodeError, Reader};
use crate::id::{OpHash, OpSeq, SourceSeq};
use crate::log::operation::Head;
use crate::record::Position;
use crate::subject::{Filter, MAX_SUBJECT_LEN};

/// Bytes of a head.
pub(super) const HEAD_LEN: usize = 8 + 32;

pub(super) fn put_head(out: &mut BytesMut, head: Head) {
    out.put_u64(head.seq.0);
    out.put_slice(head.hash.as_bytes());
}

pub(super) fn read_head(reader: &mut Reader) -> Result<Head, DecodeError> {
    let seq = OpSeq(reader.u64("operation number")?);
    Ok(Head { seq, hash: OpHash::from_bytes(reader.array32("operation hash")?) })
}

pub(super) fn put_hash(out: &mut BytesMut, hash: Option<OpHash>) {
    out.put_u8(u8::from(hash.is_some()));
    if let Some(hash) = hash {
        out.put_slice(hash.as_bytes());
    }
}

pub(super) fn read_hash(reader: &mut Reader) -> Result<Option<OpHash>, DecodeError> {
    match reader.u8("held flag")? {
        0 => Ok(None),
        1 => Ok(Some(OpHash::from_bytes(reader.array32("held hash")?))),
        _ => Err(DecodeError::Invalid("held flag")),
    }
}

pub(super) fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64(position.seq.0);
    out.put_u64(position.time);
}

pub(super) fn read_position(reader: &mut Reader) -> Result<Position, DecodeError> {
    Ok(Position { seq: SourceSeq(reader.u64("sequence")?), time: reader.u64("time")? })
}

pub(super) fn read_filter(reader: &mut Reader) -> Result<Filter, DecodeError> {
    let text = reader.string16(MAX_SUBJECT_LEN, "filter")?;
    Filter::parse(&text).map_err(|_| DecodeError::Invalid("filter"))
}

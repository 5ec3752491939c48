//! Compares the end of a log with what the source's stream holds there.

use crate::id::SourceSeq;
use crate::record::Position;

use super::Tail;
use super::recover::TailRecord;

/// The stream whose messages a log covers, as far as its end is asked for. Each answer may be newer than the one before.
pub trait SourceEnd {
    /// Why it does not answer.
    type Error;

    /// The number of the first message that was stored after this time (in nanoseconds since the Unix epoch), whatever
    /// its subject; `None` when there is none, or when the stream can't be asked by time.
    fn first_after(&self, time: u64) -> impl Future<Output = Result<Option<SourceSeq>, Self::Error>>;

    /// The last number that the stream has given; 0 for none.
    fn last(&self) -> impl Future<Output = Result<SourceSeq, Self::Error>>;

    /// When the message with this number was stored; `None` when there is none.
    fn time_of(&self, seq: SourceSeq) -> impl Future<Output = Result<Option<u64>, Self::Error>>;
}

/// Whether the source's stream still holds what the log covers last.
///
/// Looking at the last record alone would not do: the stream may have forgotten it and have given its number to another
/// message that was deleted since, which looks as if the record had expired. Whatever was stored later than the record
/// must have a greater sequence number; the first such message decides.
///
/// # Errors
/// When the stream does not answer.
pub async fn tail_record<S: SourceEnd>(source: &S, tail: Tail) -> Result<TailRecord, S::Error> {
    let through = tail.through;
    if tail.head.is_none() {
        return Ok(TailRecord::Held);
    }
    let later = source.first_after(through.time).await?;
    let last = source.last().await?;
    let held = match later {
        Some(first) if first <= through.seq => SourceSeq(first.0.saturating_sub(1)),
        _ if last < through.seq => last,
        _ => {
            return Ok(match source.time_of(through.seq).await? {
                Some(time) if time == through.time => TailRecord::Held,
                None => TailRecord::Expired,
                // The stream can't be asked by time: from the beginning, then. What is known is left out.
                Some(_) => TailRecord::Forgotten(Position::default()),
            });
        }
    };
    Ok(TailRecord::Forgotten(Position { seq: held, time: through.time }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use crate::id::{OpHash, OpSeq};
    use crate::log::operation::Head;

    use super::*;

    /// Numbers and times of the messages; and whether it can be asked by time.
    struct Stream {
        messages: Vec<(u64, u64)>,
        last: u64,
        by_time: bool,
    }

    impl SourceEnd for Stream {
        type Error = Infallible;

        async fn first_after(&self, time: u64) -> Result<Option<SourceSeq>, Infallible> {
            let first = self.messages.iter().find(|(_, stored)| *stored > time).filter(|_| self.by_time);
            Ok(first.map(|(seq, _)| SourceSeq(*seq)))
        }

        async fn last(&self) -> Result<SourceSeq, Infallible> {
            Ok(SourceSeq(self.last))
        }

        async fn time_of(&self, seq: SourceSeq) -> Result<Option<u64>, Infallible> {
            Ok(self.messages.iter().find(|(number, _)| *number == seq.0).map(|(_, time)| *time))
        }
    }

    /// Asks about a log that ends with record 5, of time 50.
    fn ask(messages: &[(u64, u64)], last: u64, by_time: bool) -> TailRecord {
        let head = Some(Head { seq: OpSeq(0), hash: OpHash::from_bytes([0; 32]) });
        let tail = Tail { head, through: Position { seq: SourceSeq(5), time: 50 }, ..Tail::default() };
        let stream = Stream { messages: messages.to_vec(), last, by_time };
        match pin!(tail_record(&stream, tail)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(record)) => record,
            Poll::Pending => panic!("nothing is waited for"),
        }
    }

    fn forgotten(seq: u64) -> TailRecord {
        TailRecord::Forgotten(Position { seq: SourceSeq(seq), time: 50 })
    }

    #[test]
    fn a_record_that_is_there_is_held_and_one_that_went_has_expired() {
        assert_eq!(ask(&[(4, 40), (5, 50), (6, 60)], 6, true), TailRecord::Held);
        assert_eq!(ask(&[(6, 60)], 6, true), TailRecord::Expired);
        assert_eq!(ask(&[], 5, true), TailRecord::Expired);
    }

    #[test]
    fn a_stream_that_ends_earlier_or_gave_the_number_again_has_forgotten() {
        assert_eq!(ask(&[(3, 30)], 3, true), forgotten(3));
        assert_eq!(ask(&[(4, 40), (5, 51)], 5, true), forgotten(4));
        assert_eq!(ask(&[(3, 30), (4, 55), (6, 60)], 6, true), forgotten(3), "what got the number is gone");
        assert_eq!(ask(&[(5, 51)], 5, false), TailRecord::Forgotten(Position::default()));
    }
}

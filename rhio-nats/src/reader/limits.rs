//! What a stream allows its consumers. Nothing that rhio asks for has a number that such a limit can forbid.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;

/// How long a consumer may be left alone, at most as long as the stream allows.
pub(crate) fn inactive(stream: &Stream, wanted: Duration) -> Duration {
    let allowed = stream.cached_info().config.consumer_limits.as_ref().map(|limits| limits.inactive_threshold);
    allowed.filter(|allowed| !allowed.is_zero()).map_or(wanted, |allowed| wanted.min(allowed))
}

/// How many messages a consumer may have delivered and not acknowledged, at most as many as the stream allows.
pub(crate) fn unacknowledged(stream: &Stream, wanted: i64) -> i64 {
    let allowed = stream.cached_info().config.consumer_limits.as_ref().map(|limits| limits.max_ack_pending);
    allowed.filter(|allowed| *allowed > 0).map_or(wanted, |allowed| wanted.min(allowed))
}

/// The number at the end of what a server says about a limit: "exceeds system limit of 1000".
pub(crate) fn named(words: &[u8]) -> Option<u64> {
    let begin = words.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    std::str::from_utf8(&words[begin..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_from_the_end_of_what_the_server_says() {
        assert_eq!(named(b"Exceeded MaxRequestBatch of 100"), Some(100));
        for none in [&b""[..], b"Exceeded MaxRequestExpires of 1s", b"of 99999999999999999999999"] {
            assert_eq!(named(none), None);
        }
    }
}

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

/// The number in what a server says about a limit: "exceeds system limit of 1000", "Exceeded MaxRequestBatch of 100".
pub(crate) fn named(words: &[u8]) -> Option<u64> {
    let begin = memchr::memmem::rfind(words, b" of ")? + 4;
    let len = words[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_whole = !words[begin + len..].first().is_some_and(u8::is_ascii_alphanumeric);
    std::str::from_utf8(&words[begin..begin + len]).ok().filter(|_| is_whole)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_in_what_the_server_says() {
        assert_eq!(named(b"Exceeded MaxRequestBatch of 100"), Some(100));
        let error = b"consumer max ack pending exceeds system limit of 20 (code 400, error code 10121)";
        assert_eq!(named(error), Some(20));
        for none in [&b""[..], b"Exceeded MaxRequestExpires of 1s", b"of 99999999999999999999999"] {
            assert_eq!(named(none), None);
        }
    }
}

//! What becomes of a message's headers where it arrives: what steered JetStream at the source must not steer it again.

use std::borrow::Cow;

/// Names the author: 64 hex digits. A message that carries it came through rhio and is never published again.
pub const PUBLIC_KEY: &str = "X-Rhio-PublicKey";
/// Names the operation: the first 16 hex digits of its hash, `/`, and the record's index in it.
pub const OPERATION: &str = "X-Rhio-Operation";
/// Names the place at the author: the life of the author's stream ([`LogDescriptor::life`]), `/`, the sequence number
/// there, `/`, and the time there in nanoseconds. This is what a restart reads back to learn what has been written
/// already, also under a log that the author has forgotten since.
///
/// [`LogDescriptor::life`]: crate::log::descriptor::LogDescriptor::life
pub const SOURCE: &str = "X-Rhio-Source";
/// The `Nats-Msg-Id` that the message had at its source.
pub const MSG_ID: &str = "X-Rhio-Msg-Id";
/// Put before a header's name to keep its text without its effect.
const QUARANTINE: &str = "X-Rhio-";

/// `Nats-` headers that only inform, so that they travel unchanged. Every other one may steer a server, today's or a
/// later one, and is quarantined.
const HARMLESS: [&str; 9] = [
    "Nats-Service-Error",
    "Nats-Service-Error-Code",
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Last-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Msg-Size",
];

/// The name under which a header of the source is written at the destination. `ttl_allowed` says whether the local
/// stream takes per-message TTLs (`allow_msg_ttl`).
pub fn destination_name(name: &str, ttl_allowed: bool) -> Cow<'_, str> {
    let nats = name.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("Nats-"));
    if !nats || HARMLESS.iter().any(|h| h.eq_ignore_ascii_case(name)) {
        return Cow::Borrowed(name);
    }
    if name.eq_ignore_ascii_case("Nats-Msg-Id") {
        return Cow::Borrowed(MSG_ID);
    }
    if name.eq_ignore_ascii_case("Nats-TTL") && ttl_allowed {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{QUARANTINE}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_headers_are_kept_without_their_effect() {
        for (source, destination) in [
            ("Content-Type", "Content-Type"),
            ("traceparent", "traceparent"),
            ("Nats-Msg-Id", "X-Rhio-Msg-Id"),
            ("nats-msg-id", "X-Rhio-Msg-Id"),
            ("Nats-Rollup", "X-Rhio-Nats-Rollup"),
            ("Nats-Expected-Stream", "X-Rhio-Nats-Expected-Stream"),
            ("Nats-Batch-Id", "X-Rhio-Nats-Batch-Id"),
            ("Nats-Schedule-Target", "X-Rhio-Nats-Schedule-Target"),
            ("Nats-Incr", "X-Rhio-Nats-Incr"),
            ("Nats-Stream-Source", "X-Rhio-Nats-Stream-Source"),
            ("Nats-TTL", "X-Rhio-Nats-TTL"),
            ("Nats-Something-Of-Tomorrow", "X-Rhio-Nats-Something-Of-Tomorrow"),
            ("Nats-Service-Error", "Nats-Service-Error"),
        ] {
            assert_eq!(destination_name(source, false), destination);
        }
        assert_eq!(destination_name("Nats-TTL", true), "Nats-TTL");
    }
}

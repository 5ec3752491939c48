//! What to do about a problem, by its words.
//!
//! Errors say what is wrong where they happen. Whoever reads a status page wants to know what to do next as well; where
//! the sentence does not say that already, this does.

/// Phrases of our own errors, and of the servers', with the next thing to do. The first that is found counts.
const KNOWN: &[(&str, &str)] = &[
    ("refuses us", "add this node's public key (rhio id) to 'nodes' in the other node's configuration"),
    ("no address of it is known", "add an address to the node's entry in 'nodes'"),
    (
        "not connected to",
        "check that the other rhio runs, that its address in 'nodes' is right, and that its UDP port is open in every \
         firewall between",
    ),
    ("credentials", "check 'nats.credentials', and that the user exists on the server"),
    ("JetStream not enabled", "enable JetStream on the NATS server"),
    ("jetstream not enabled", "enable JetStream on the NATS server"),
    ("No address is known", "check the name in 'nats.endpoint'"),
    ("NATS at", "check that NATS runs and that 'nats.endpoint' leads to it"),
    ("no connection", "check that NATS runs and that 'nats.endpoint' leads to it; rhio reconnects by itself"),
    ("connection to the local NATS was lost", "check that NATS runs; rhio reconnects by itself"),
    (
        "another process with the same private key",
        "run one rhio per private key: stop the other one, or give it its own key",
    ),
    ("another connection of a rhio", "run one rhio per private key: stop the other one, or give it its own key"),
    (
        "maximum messages exceeded",
        "the local stream is full and refuses new messages: raise its limits, or let it discard old ones",
    ),
    ("maximum bytes exceeded", "the local stream is full: raise its limits, or let it discard old messages"),
    ("insufficient storage", "the NATS server's storage is full: make room, or raise its limit"),
    ("may not read", "ask the other side to add this node's public key to 'nodes' or 'allow'"),
    (
        "is not published for",
        "ask the other side to publish it, and to add this node's public key to 'nodes' or 'allow'",
    ),
    (
        "publishes nothing under this filter",
        "check the subject here and 'publish' in the other node's configuration, and that it may read: 'nodes', 'allow'",
    ),
    ("does not capture", "add the subject to the stream (nats stream edit), or correct 'stream' in the configuration"),
    ("does not exist", "create it; rhio goes on by itself"),
    ("no answer within", "look whether the server hangs or is overloaded, and what rhio's user may do there"),
    ("max_payload", "raise max_payload on the local NATS servers"),
    ("refuses access", "check 's3.credentials', and what they may do with this bucket"),
    ("has no 's3'", "add 's3' to the configuration"),
    ("nats request rhio.deletes", "look whether the deletes were meant; if so, confirm them with that command"),
    ("put any object into the bucket", "look whether the bucket was meant to be emptied"),
    ("is left alone", "delete or rename the local object, or subscribe into another bucket"),
    ("no progress", "check the network between the nodes; rhio begins anew by itself"),
    ("can't be accepted", "look at the other node's log and version; what it sent is not what was signed"),
    ("state stream", "look at rhio's own stream with: nats stream info RHIO"),
    ("stream '", "look at the stream with: nats stream info"),
    ("bucket '", "check that the S3 server runs and that 's3.endpoint' leads to it"),
];

/// The next thing to do.
pub fn of(problem: &str) -> String {
    let found = KNOWN.iter().find(|(phrase, _)| problem.contains(phrase));
    found.map_or("look at rhio's log; rhio tries again by itself", |(_, remedy)| *remedy).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_run_into_has_an_answer() {
        for (problem, answer) in [
            ("NATS at localhost:4222 cannot be reached: Connection refused", "nats.endpoint"),
            ("local stream 'x' does not exist; create it, rhio goes on by itself", "create it"),
            ("local bucket 'b' does not exist", "create it"),
            ("refused by the peer: bucket 'b' is not published for abc; the author must", "'allow'"),
            ("not connected to abc", "UDP port"),
            ("abc refuses us: our public key def must be added to its 'nodes'", "rhio id"),
            ("local stream 's' refuses a message: maximum messages exceeded", "full"),
            ("bucket 'b': connection refused", "S3 server runs"),
            ("bucket 'b' refuses access: signature", "s3.credentials"),
            ("stream 's' does not capture 'a.>' (it has b); add the subject to the stream", "nats stream edit"),
        ] {
            assert!(of(problem).contains(answer), "{problem}: {}", of(problem));
        }
        assert!(of("something new").contains("log"));
    }
}

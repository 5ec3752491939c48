//! The subjects of the state stream: what stands where. They all begin with `$RHIO.<node>.`, so nodes can share a stream.
//!
//! | subject | what the messages hold |
//! | --- | --- |
//! | `ops.<node>.<log>` | own log: one commit with one operation each |
//! | `ops.<author>.<log>.<subscription>` | a log as it was applied: commits; the last one is the cursor |
//! | `log.<author>.<log>` | the log's descriptor |
//! | `server.<log>` | id of the NATS server that acknowledged the end of an own log |
//! | `landed.<log>.<subscription>` | which entries of a bucket's log are settled; only the last message counts |
//! | `upload.<name>` | an upload in parts that is under way; only the last message counts |

use rhio_core::id::{LogId, PublicKey};

/// One subject, or a pattern where something is left open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StateSubject {
    /// Operations of a log: a subscription's copy, or the author's own when there is none.
    Operations {
        /// Who signs it.
        author: PublicKey,
        /// The log.
        log: LogId,
        /// Whose copy it is: 16 hex digits.
        subscription: Option<String>,
    },
    /// What a log is about.
    Descriptor {
        /// Who signs it.
        author: PublicKey,
        /// The log.
        log: LogId,
    },
    /// Which server acknowledged the end of an own log.
    Server(LogId),
    /// What is settled of a bucket's log.
    Landed {
        /// The log.
        log: LogId,
        /// Which subscription has settled it.
        subscription: String,
    },
    /// An upload, by its name: one token.
    Upload(String),
}

/// The beginning of every subject of a node.
pub fn prefix(node: PublicKey) -> String {
    format!("$RHIO.{node}")
}

impl StateSubject {
    /// The subject in the stream of this node.
    pub fn of(&self, node: PublicKey) -> String {
        let prefix = prefix(node);
        match self {
            Self::Operations { author, log, subscription: None } => format!("{prefix}.ops.{author}.{log}"),
            Self::Operations { author, log, subscription: Some(id) } => format!("{prefix}.ops.{author}.{log}.{id}"),
            Self::Descriptor { author, log } => format!("{prefix}.log.{author}.{log}"),
            Self::Server(log) => format!("{prefix}.server.{log}"),
            Self::Landed { log, subscription } => format!("{prefix}.landed.{log}.{subscription}"),
            Self::Upload(name) => format!("{prefix}.upload.{name}"),
        }
    }

    /// Reads a subject of this node; `None` for any other, also one of a format that is no longer written.
    pub fn parse(node: PublicKey, subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix(&prefix(node))?.strip_prefix('.')?;
        let tokens: Vec<&str> = rest.split('.').collect();
        Some(match tokens[..] {
            ["ops", author, log] => {
                Self::Operations { author: author.parse().ok()?, log: log.parse().ok()?, subscription: None }
            }
            ["ops", author, log, id] => Self::Operations {
                author: author.parse().ok()?,
                log: log.parse().ok()?,
                subscription: Some(id.to_owned()),
            },
            ["log", author, log] => Self::Descriptor { author: author.parse().ok()?, log: log.parse().ok()? },
            ["server", log] => Self::Server(log.parse().ok()?),
            ["landed", log, id] => Self::Landed { log: log.parse().ok()?, subscription: id.to_owned() },
            ["upload", name] => Self::Upload(name.to_owned()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_back_and_others_are_told_apart() {
        let key = |fill| p2panda_core::SigningKey::from_bytes(&[fill; 32]).verifying_key().into();
        let (node, author): (PublicKey, PublicKey) = (key(1), key(2));
        let log = LogId::from_bytes([5; 32]);
        let id = || "0123456789abcdef".to_owned();
        for (subject, text) in [
            (StateSubject::Operations { author, log, subscription: None }, format!("ops.{author}.{log}")),
            (
                StateSubject::Operations { author, log, subscription: Some(id()) },
                format!("ops.{author}.{log}.{}", id()),
            ),
            (StateSubject::Descriptor { author, log }, format!("log.{author}.{log}")),
            (StateSubject::Server(log), format!("server.{log}")),
            (StateSubject::Landed { log, subscription: id() }, format!("landed.{log}.{}", id())),
            (StateSubject::Upload(id()), format!("upload.{}", id())),
        ] {
            assert_eq!(subject.of(node), format!("$RHIO.{node}.{text}"));
            assert_eq!(StateSubject::parse(node, &subject.of(node)), Some(subject.clone()));
            assert_eq!(StateSubject::parse(author, &subject.of(node)), None, "another node's");
        }
        assert_eq!(StateSubject::parse(node, &format!("$RHIO.{node}.catalog.{author}.{log}")), None);
        assert_eq!(StateSubject::parse(node, "orders.new"), None);
    }
}

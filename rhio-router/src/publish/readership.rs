//! Who may read a publication, and who reads it now. The second is kept in memory only, for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rhio_core::id::{OpSeq, PublicKey};
use rhio_core::policy::Readers;

/// A node that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Which one.
    pub peer: PublicKey,
    /// Since when.
    pub since: SystemTime,
    /// The last operation that it says to hold durably.
    pub applied: Option<OpSeq>,
}

/// The readers of one publication.
#[derive(Debug)]
pub struct Readership {
    may: RwLock<Readers>,
    sessions: Arc<Sessions>,
}

/// The next session's number, and who reads in each.
#[derive(Debug, Default)]
struct Sessions(Mutex<(u64, BTreeMap<u64, Reader>)>);

impl Sessions {
    fn with<T>(&self, change: impl FnOnce(&mut (u64, BTreeMap<u64, Reader>)) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Readership {
    /// Nobody reads yet; these may.
    pub fn new(readers: Readers) -> Self {
        Self { may: RwLock::new(readers), sessions: Arc::default() }
    }

    /// Whether a node may read.
    pub fn admits(&self, peer: &PublicKey) -> bool {
        self.may.read().unwrap_or_else(PoisonError::into_inner).admit(peer)
    }

    /// Whether readers may be anybody, so that it is not known who they are.
    pub fn is_open(&self) -> bool {
        matches!(*self.may.read().unwrap_or_else(PoisonError::into_inner), Readers::Anyone)
    }

    /// Changes who may read.
    pub fn allow(&self, readers: Readers) {
        *self.may.write().unwrap_or_else(PoisonError::into_inner) = readers;
    }

    /// A session begins. It ends when what is returned goes.
    pub fn enter(&self, peer: PublicKey) -> Presence {
        let number = self.sessions.with(|(next, sessions)| {
            *next += 1;
            sessions.insert(*next, Reader { peer, since: SystemTime::now(), applied: None });
            *next
        });
        Presence { sessions: Arc::clone(&self.sessions), number }
    }

    /// The readers, each once: a node may have a session for every epoch of the log.
    pub fn list(&self) -> Vec<Reader> {
        let mut readers: BTreeMap<PublicKey, Reader> = BTreeMap::new();
        self.sessions.with(|(_, sessions)| {
            for reader in sessions.values() {
                let known = readers.entry(reader.peer).or_insert(*reader);
                known.since = known.since.min(reader.since);
                known.applied = reader.applied.or(known.applied);
            }
        });
        readers.into_values().collect()
    }
}

/// A session that goes on.
#[derive(Debug)]
pub struct Presence {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Presence {
    /// The reader holds the log durably up to this operation.
    pub fn applied(&self, seq: OpSeq) {
        self.sessions.with(|(_, sessions)| {
            if let Some(reader) = sessions.get_mut(&self.number) {
                reader.applied = Some(seq);
            }
        });
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.sessions.with(|(_, sessions)| sessions.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_listed_once_while_it_reads() {
        let readership = Readership::new(Readers::Anyone);
        let peer = p2panda_core::SigningKey::from_bytes(&[7; 32]).verifying_key().into();
        let (first, second) = (readership.enter(peer), readership.enter(peer));
        second.applied(OpSeq(4));
        let [reader] = &readership.list()[..] else { panic!("one reader") };
        assert_eq!(reader.applied, Some(OpSeq(4)));
        drop(first);
        assert_eq!(readership.list().len(), 1);
        drop(second);
        assert!(readership.list().is_empty());
    }
}

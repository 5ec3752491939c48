//! Who may read what. Closed by default: a node that is not listed reads nothing.

use std::collections::BTreeSet;

use crate::id::PublicKey;

/// Who may read a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Every node of the network.
    Anyone,
    /// These nodes.
    Listed(BTreeSet<PublicKey>),
}

impl Readers {
    /// The rule of one publication: its own list when it has one, else what holds for the node.
    pub fn of(open: bool, known: &BTreeSet<PublicKey>, allow: Option<&[PublicKey]>) -> Self {
        match allow {
            Some(keys) => Self::Listed(keys.iter().copied().collect()),
            None if open => Self::Anyone,
            None => Self::Listed(known.clone()),
        }
    }

    /// Whether this node may read.
    pub fn admit(&self, peer: &PublicKey) -> bool {
        match self {
            Self::Anyone => true,
            Self::Listed(keys) => keys.contains(peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> PublicKey {
        p2panda_core::SigningKey::from_bytes(&[fill; 32]).verifying_key().into()
    }

    #[test]
    fn an_entrys_own_list_wins_over_the_nodes_rule() {
        let known = BTreeSet::from([key(1)]);
        assert!(Readers::of(false, &known, None).admit(&key(1)));
        assert!(!Readers::of(false, &known, None).admit(&key(2)));
        assert!(Readers::of(true, &known, None).admit(&key(2)));
        assert!(!Readers::of(true, &known, Some(&[key(3)])).admit(&key(1)));
        assert!(Readers::of(false, &known, Some(&[key(3)])).admit(&key(3)));
        assert!(!Readers::of(true, &known, Some(&[])).admit(&key(1)));
    }
}

//! How much a log holds.

/// Items and their bytes: records of messages, or entries of a catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Records, or entries.
    pub items: u64,
    /// Their bytes: canonical bytes of records, content of the objects that entries put.
    pub bytes: u64,
}

impl Total {
    /// Both together. Saturates: an author may have signed any number.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { items: self.items.saturating_add(more.items), bytes: self.bytes.saturating_add(more.bytes) }
    }

    /// What is in this one and not in `before`; nothing where that has more.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { items: self.items.saturating_sub(before.items), bytes: self.bytes.saturating_sub(before.bytes) }
    }

    /// Whether both numbers are at least those of `other`.
    pub fn covers(self, other: Self) -> bool {
        self.items >= other.items && self.bytes >= other.bytes
    }
}

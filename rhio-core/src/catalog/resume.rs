//! Which catalog an author goes on with: the newest when it is certain where that ends, else one of a new epoch, which
//! says everything again. What older ones say is read all the same: hashes come from there where the bucket still has
//! the same version, so that nothing need be read twice.

use super::Entry;
use super::inventory::Inventory;
use crate::id::{LogId, PublicKey};
use crate::log::descriptor::LogDescriptor;
use crate::log::operation::{Head, Operation};
use crate::log::start::next_epoch;
use crate::log::total::Total;

/// The commits of one log, read in order.
pub trait Commits {
    /// Why they can't be read.
    type Error;

    /// The sequence number of the next one in the state stream, and its operations; `None` behind the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<(u64, Vec<Operation>)>, Self::Error>>;
}

/// An author's catalogs of one bucket, in its state stream.
pub trait Catalogs {
    /// Why it does not answer.
    type Error;
    /// Reads one of them.
    type Commits: Commits<Error = Self::Error>;

    /// All that are known, oldest epoch first.
    fn known(&self) -> impl Future<Output = Result<Vec<LogDescriptor>, Self::Error>>;

    /// Whether the very run of the NATS server that answers now has acknowledged all that a log holds.
    fn is_certain(&self, log: LogId) -> impl Future<Output = Result<bool, Self::Error>>;

    /// Begins to read a log.
    fn read(&self, log: &LogDescriptor) -> impl Future<Output = Result<Self::Commits, Self::Error>>;

    /// Stores what a new log is about, and notes that the server that answers now has all of it.
    fn begin(&self, log: &LogDescriptor) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Where a catalog ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its last operation.
    pub head: Option<Head>,
    /// How much it says.
    pub total: Total,
    /// Sequence number of its last commit in the state stream; 0 for none.
    pub state_seq: u64,
    /// It has said [`Entry::Complete`].
    pub complete: bool,
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The author.
    pub author: PublicKey,
    /// The bucket.
    pub bucket: &'a str,
    /// A reader has said that it knows more of the newest catalog than this node.
    pub doubted: bool,
    /// Milliseconds since the Unix epoch.
    pub now: u64,
}

/// A catalog to go on with.
#[derive(Debug)]
pub struct Resumed {
    /// What it is about.
    pub descriptor: LogDescriptor,
    /// Where it ends.
    pub end: End,
    /// What it says.
    pub inventory: Inventory,
    /// What older epochs say.
    pub remembered: Inventory,
    /// Older epochs, which are dropped once this one has said everything.
    pub older: Vec<LogDescriptor>,
    /// It is new.
    pub begun: bool,
}

/// Finds the catalog to go on with, or begins one. One that has said much more than is left of it is followed by a new
/// one, too.
///
/// # Errors
/// When the state stream does not answer.
pub async fn resume<C: Catalogs>(catalogs: &C, wanted: Wanted<'_>) -> Result<Resumed, C::Error> {
    let mut older = catalogs.known().await?;
    let last_epoch = older.last().map(|last| last.epoch);
    let mut certain = None;
    if let Some(last) = older.last().filter(|_| !wanted.doubted)
        && catalogs.is_certain(last.id()).await?
    {
        certain = older.pop();
    }
    let mut remembered = Inventory::default();
    for descriptor in &older {
        read(catalogs, descriptor, &mut remembered).await?;
    }
    if let Some(descriptor) = certain {
        let mut inventory = Inventory::default();
        let end = read(catalogs, &descriptor, &mut inventory).await?;
        if !(end.complete && inventory.worth_new_epoch(&end.total)) {
            inventory.expect(remembered.len());
            return Ok(Resumed { descriptor, end, inventory, remembered, older, begun: false });
        }
        read(catalogs, &descriptor, &mut remembered).await?;
        older.push(descriptor);
    }
    let epoch = next_epoch(wanted.now, last_epoch);
    let descriptor = LogDescriptor::bucket(wanted.author, epoch, wanted.bucket);
    catalogs.begin(&descriptor).await?;
    let mut inventory = Inventory::default();
    inventory.expect(remembered.len());
    Ok(Resumed { descriptor, end: End::default(), inventory, remembered, older, begun: true })
}

async fn read<C: Catalogs>(catalogs: &C, log: &LogDescriptor, inventory: &mut Inventory) -> Result<End, C::Error> {
    let mut commits = catalogs.read(log).await?;
    let mut end = End::default();
    while let Some((seq, operations)) = commits.next().await? {
        for operation in operations {
            for entry in operation.entries() {
                inventory.apply(entry);
                end.complete |= *entry == Entry::Complete;
            }
            (end.total, end.head) = (operation.after(), Some(operation.head()));
        }
        end.state_seq = seq;
    }
    Ok(end)
}

#[cfg(test)]
mod tests;

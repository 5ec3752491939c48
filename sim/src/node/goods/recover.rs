//! How a catalog is found or begun: [`rhio_core::catalog::resume`] decides, this looks and writes for it.

use std::vec::IntoIter;

use rhio_core::catalog::resume::{Catalogs, Commits, Resumed, Wanted, resume};
use rhio_core::id::{LogId, PublicKey};
use rhio_core::log::descriptor::LogDescriptor;
use rhio_core::log::operation::Operation;

use super::BUCKET;
use crate::base::MS;
use crate::config::Broken;
use crate::exec::Cx;
use crate::nats::{Lost, Nats};
use crate::node::store::{Stored, catalogs_of, descriptor_subject, ops_subject, server_subject};

/// Finds the catalog to go on with.
pub async fn recover(cx: &Cx, nats: &Nats, doubted: bool) -> Result<Resumed, Lost> {
    let (author, broken) = cx.with(|w| (w.public_key(cx.node), w.config.broken));
    let own = Own { nats, author, trusting: broken == Some(Broken::ContinueInDoubt) };
    let found = resume(&own, Wanted { author, bucket: BUCKET, doubted, now: cx.now() / MS }).await?;
    cx.note(|| format!("author writes catalog {:?}, begun {}", found.descriptor.id(), found.begun));
    Ok(found)
}

/// This node's catalogs in its state stream.
struct Own<'a> {
    nats: &'a Nats,
    author: PublicKey,
    /// The driver takes every end for certain.
    trusting: bool,
}

impl Catalogs for Own<'_> {
    type Error = Lost;
    type Commits = Reader;

    async fn known(&self) -> Result<Vec<LogDescriptor>, Lost> {
        Ok(catalogs_of(&self.nats.state(None).await?, self.author))
    }

    async fn is_certain(&self, log: LogId) -> Result<bool, Lost> {
        let notes = self.nats.state(Some(server_subject(log))).await?;
        Ok(self.trusting || notes.last().is_some_and(|note| note.payload == self.nats.server.to_string()))
    }

    async fn read(&self, log: &LogDescriptor) -> Result<Reader, Lost> {
        let messages = self.nats.state(Some(ops_subject(self.author, log.id()))).await?;
        Ok(Reader(messages.iter().map(Stored::read).collect::<Vec<_>>().into_iter()))
    }

    async fn begin(&self, log: &LogDescriptor) -> Result<(), Lost> {
        let subject = descriptor_subject(self.author, log.id());
        // Refused when it is there: as good.
        self.nats.put(&subject, log.encode(), Some(0)).await?;
        self.nats.put(&server_subject(log.id()), self.nats.server.to_string().into(), None).await?;
        Ok(())
    }
}

/// Reads one of them.
struct Reader(IntoIter<Stored>);

impl Commits for Reader {
    type Error = Lost;

    async fn next(&mut self) -> Result<Option<(u64, Vec<Operation>)>, Lost> {
        Ok(self.0.next().map(|stored| (stored.seq, stored.operations)))
    }
}

//! Brings one object here, or removes one.

use rhio_core::catalog::Put;
use rhio_core::catalog::landing::{Outcome, Task};
use rhio_core::id::PublicKey;
use rhio_core::object::ObjectKey;

use crate::bucket::client::{self, Failed};
use crate::bucket::{Condition, Object, Version};
use crate::config::Broken;
use crate::exec::Cx;
use crate::network::Connection;

/// What the tasks of a session share.
#[derive(Clone)]
pub struct Landing {
    pub cx: Cx,
    pub conn: Connection,
    pub author: PublicKey,
    pub broken: Option<Broken>,
}

impl Landing {
    /// Does a task. `here` is the key of another object of ours that has the same content.
    pub async fn work(&self, task: &Task, here: Option<ObjectKey>) -> Result<Outcome, Failed> {
        match task {
            Task::Land { put, .. } => self.land(put, here).await,
            Task::Remove { key, .. } => {
                if let Some(object) = client::head(&self.cx, key).await?
                    && object.origin.is_some_and(|(_, author)| author == self.author)
                {
                    client::delete(&self.cx, key, object.etag).await?;
                }
                Ok(Outcome::Done)
            }
        }
    }

    async fn land(&self, put: &Put, here: Option<ObjectKey>) -> Result<Outcome, Failed> {
        let mut condition = match client::head(&self.cx, &put.key).await? {
            None => Condition::Absent,
            Some(object) if object.origin.is_none() && self.broken != Some(Broken::Overwrite) => {
                return Ok(Outcome::Kept);
            }
            Some(object) if self.is_same(&object, put) => return Ok(Outcome::Done),
            Some(object) => Condition::Is(object.etag),
        };
        if self.broken == Some(Broken::Unconditional) {
            condition = Condition::None;
        }
        let content = self.content(put, here).await?;
        let Some(version) = Version::of(put) else { return Err(Failed::Unverified) };
        let version = Version { content, ..version };
        match client::put(&self.cx, &put.key, version, (put.hash, self.author), condition).await {
            Ok(_) => Ok(Outcome::Done),
            // Somebody put an object there meanwhile. Whose it is, the next attempt sees.
            Err(Failed::Conflict) => match client::head(&self.cx, &put.key).await? {
                Some(object) if object.origin.is_none() => Ok(Outcome::Kept),
                Some(object) if self.is_same(&object, put) => Ok(Outcome::Done),
                _ => Err(Failed::Conflict),
            },
            Err(error) => Err(error),
        }
    }

    async fn content(&self, put: &Put, here: Option<ObjectKey>) -> Result<u64, Failed> {
        if let Some(here) = here.filter(|here| *here != put.key)
            && let Some(object) = client::head(&self.cx, &here).await?
            && object.origin.is_some_and(|(hash, _)| hash == put.hash)
        {
            return Ok(object.version.content);
        }
        let content = client::fetch(&self.cx, &self.conn, put).await?;
        let genuine = Version { content, kind: 0 }.hash() == put.hash;
        if genuine || self.broken == Some(Broken::Unverified) { Ok(content) } else { Err(Failed::Unverified) }
    }

    /// Whether what is there is this very version.
    fn is_same(&self, object: &Object, put: &Put) -> bool {
        object.origin == Some((put.hash, self.author))
            && Version::of(put).is_some_and(|v| v.kind == object.version.kind)
    }
}

//! The task that writes.

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Lost, Shared, WRITE_DEADLINE};
use crate::raw::encode::Outbox;

/// Writes what waits until the connection is gone.
pub(super) async fn run<S: AsyncWrite + Unpin>(mut socket: S, shared: Arc<Shared>) {
    tokio::select! {
        why = write(&mut socket, &shared) => shared.break_off(why),
        () = shared.lost.cancelled() => {}
    }
    // Nothing depends on it: whoever wants to know that something was read asks for an answer.
    let _ = timeout(WRITE_DEADLINE, socket.shutdown()).await;
}

async fn write<S: AsyncWrite + Unpin>(socket: &mut S, shared: &Shared) -> Lost {
    let mut mine = Outbox::default();
    let mut is_flushed = true;
    loop {
        shared.take(&mut mine);
        if !mine.is_empty() {
            shared.written.notify_waiters();
            if let Err(why) = write_all(socket, &mine).await {
                return why;
            }
            mine.clear();
            is_flushed = false;
        } else if !is_flushed {
            if let Err(why) = in_time(socket.flush()).await {
                return why;
            }
            is_flushed = true;
        } else {
            shared.work.notified().await;
        }
    }
}

async fn write_all<S: AsyncWrite + Unpin>(socket: &mut S, outbox: &Outbox) -> Result<(), Lost> {
    for mut piece in outbox.pieces() {
        while !piece.is_empty() {
            match in_time(socket.write(piece)).await? {
                0 => return Err(Lost::Closed),
                written => piece = &piece[written..],
            }
        }
    }
    Ok(())
}

async fn in_time<T>(write: impl Future<Output = std::io::Result<T>>) -> Result<T, Lost> {
    let written = timeout(WRITE_DEADLINE, write).await.map_err(|_| Lost::Stuck)?;
    written.map_err(|error| Lost::Io(error.to_string()))
}

//! The author of a catalog: lists its bucket, says what changed, and lets others read.

use std::cell::RefCell;
use std::rc::Rc;

use rhio_core::log::commit::Commit;
use rhio_core::object::ObjectKey;

use super::publishing::Publishing;
use super::recover::recover;
use super::serve::{self, Shared, View};
use crate::base::{MS, SECOND};
use crate::bucket::Object;
use crate::bucket::client::{self, Failed};
use crate::config::Broken;
use crate::exec::{Cx, Job, ended, first_ended};
use crate::nats::{Lost, Nats, Request, Response, Ticket, Which};
use crate::node::store::{descriptor_subject, ops_subject, server_subject};

/// How long a process waits that has seen another one at work.
const STAND_BACK: u64 = 2 * SECOND;

/// Why writing stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nats,
    /// A reader knows more of the catalog than this node.
    Doubt,
    /// Another process with this key is at work.
    StandBack,
}

impl From<Lost> for End {
    fn from(_: Lost) -> Self {
        Self::Nats
    }
}

pub async fn run(cx: Cx) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    cx.spawn(serve::accept(cx.clone(), Rc::clone(&shared)));
    let mut doubted = false;
    loop {
        let nats = Nats::connect(&cx).await;
        let end = publish(&cx, &nats, &shared, doubted).await.err();
        nats.close();
        shared.borrow_mut().hide();
        cx.note(|| format!("catalog's author stops: {end:?}"));
        cx.touch();
        doubted = end == Some(End::Doubt);
        let rest = if end == Some(End::StandBack) { STAND_BACK + cx.between(0, SECOND) } else { 0 };
        cx.sleep(rest + cx.between(5 * MS, 200 * MS)).await;
    }
}

/// Objects by their keys, in order.
type Page = Vec<(ObjectKey, Object)>;

/// A listing that is under way.
struct Listing {
    page: Option<Job<Result<Page, Failed>>>,
    /// The last key that it has told.
    behind: Option<ObjectKey>,
    /// When the next one begins.
    due: u64,
    size: usize,
    poll: u64,
}

impl Listing {
    fn new(cx: &Cx) -> Self {
        let (size, poll) = cx.with(|w| w.config.buckets.as_ref().map_or((1, SECOND), |b| (b.page, b.poll)));
        Self { page: None, behind: None, due: 0, size, poll }
    }

    /// Goes on. Returns whether anything happened.
    fn step(&mut self, cx: &Cx, publishing: &mut Publishing) -> bool {
        if self.page.is_none() && (self.behind.is_some() || cx.now() >= self.due) {
            if self.behind.is_none() {
                publishing.inventory.begin_listing();
            }
            let (cx, behind, size) = (cx.clone(), self.behind.clone(), self.size);
            self.page = Some(Box::pin(async move { client::list(&cx, behind, size).await }));
        }
        let Some(listed) = ended(&mut self.page) else { return false };
        let before = self.behind.take();
        match listed {
            Ok(page) if page.is_empty() => publishing.end_listing(),
            Ok(page) => {
                self.behind = page.last().map(|(key, _)| key.clone()).or(before);
                publishing.page(page);
                return true;
            }
            Err(_) => drop(publishing.inventory.end_listing(false)),
        }
        self.due = cx.now() + self.poll;
        cx.look_in(self.poll);
        true
    }
}

async fn publish(cx: &Cx, nats: &Nats, shared: &Rc<RefCell<Shared>>, doubted: bool) -> Result<(), End> {
    let broken = cx.with(|w| w.config.broken);
    let mut publishing = Publishing::new(cx, recover(cx, nats, doubted).await?);
    let (author, log) = (publishing.descriptor.author, publishing.descriptor.id());
    let mut listing = Listing::new(cx);
    let mut appending: Option<Ticket> = None;
    loop {
        nats.check()?;
        if std::mem::take(&mut shared.borrow_mut().doubted) {
            return Err(End::Doubt);
        }
        publishing.fill();
        if appending.is_none() && publishing.stage().is_some() {
            appending = append(nats, &publishing, broken, shared);
        }
        let mut moved = false;
        if let Some(ticket) = appending
            && let Some(answer) = nats.poll(ticket)
        {
            (appending, moved) = (None, true);
            let Response::Stored(seq) = answer? else { return Err(End::StandBack) };
            publishing.state_seq = seq;
            for old in publishing.said() {
                for subject in
                    [ops_subject(author, old.id()), server_subject(old.id()), descriptor_subject(author, old.id())]
                {
                    nats.purge(&subject, u64::MAX).await?;
                }
            }
        }
        while let Some((key, found)) = first_ended(&mut publishing.running) {
            publishing.found(key, found);
            moved = true;
        }
        moved |= listing.step(cx, &mut publishing);
        show(cx, nats, shared, &publishing);
        if !moved {
            cx.changed().await;
        }
        debug_assert_eq!(log, publishing.writer.log());
    }
}

/// Appends what is staged.
fn append(
    nats: &Nats,
    publishing: &Publishing,
    broken: Option<Broken>,
    shared: &Rc<RefCell<Shared>>,
) -> Option<Ticket> {
    let operation = publishing.writer.staged()?;
    if broken == Some(Broken::ReleaseEarly) {
        shared.borrow_mut().early.push(operation.clone());
    }
    Some(nats.send(Request::Append {
        which: Which::State,
        subject: ops_subject(publishing.descriptor.author, publishing.descriptor.id()),
        headers: vec![],
        payload: Commit::own(operation.raw().clone()).encode(),
        expected: (broken != Some(Broken::NoCompareAndSet)).then_some(publishing.state_seq),
    }))
}

/// Lets sessions see what is durable.
fn show(cx: &Cx, nats: &Nats, shared: &Rc<RefCell<Shared>>, publishing: &Publishing) {
    let (mut head, total) = (publishing.writer.head(), publishing.writer.total());
    let mut open = shared.borrow_mut();
    if let Some(early) = open.early.iter().rfind(|operation| operation.log() == publishing.writer.log()) {
        head = Some(early.head());
    }
    let pending = publishing.listed.then(|| publishing.pending());
    let view = View { descriptor: publishing.descriptor.clone(), head, total, pending };
    if open.show(nats, view) {
        drop(open);
        cx.touch();
    }
}

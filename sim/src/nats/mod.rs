//! A process's connection to its cluster's NATS.
//!
//! Requests are carried out in the order in which they were sent, each some time after it was sent; the answer takes its
//! time as well. At any moment the connection may break or the process be killed: a beginning of what is under way is
//! still carried out, sometimes with one left out of the middle (a leader change does that), and no answer comes. An
//! answer may be lost although the request was carried out. A connection is never made again: what waits in one is lost
//! with it. (The daemon keeps that rule for its sink; requests that a library sends again over the next connection are
//! not modelled.)

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::{MS, NodeId, ProcId, SECOND, US, name};
use crate::exec::Cx;
use crate::history::operations_of;
use crate::jetstream::{Message, Stream};
use crate::world::World;

pub mod clients;

pub use clients::{Info, Lost, Request, Response, Which};

use clients::{Client, ClientId, RequestId};

/// How long a request waits for its answer.
const TIMEOUT: u64 = SECOND;

impl World {
    fn connect(&mut self, proc: ProcId, site: NodeId) -> Option<(ClientId, u64)> {
        if !self.sites[site].up {
            return None;
        }
        self.clients.next += 1;
        let id = self.clients.next;
        let (pending, answers, busy) = (VecDeque::new(), BTreeMap::new(), 0);
        let client = Client { proc, site, pending, answers, busy, broken: false, lost: false, news: true, claim: None };
        self.clients.all.insert(id, client);
        Some((id, self.sites[site].identity))
    }

    fn request(&mut self, id: ClientId, request: Request) -> RequestId {
        self.clients.next += 1;
        let ticket = self.clients.next;
        let delay = self.rng.between(50 * US, 1500 * US);
        let lost = self.faulty && self.rng.chance(self.config.faults.lost_request);
        let Some(client) = self.clients.all.get_mut(&id) else { return ticket };
        if client.lost {
            client.answers.insert(ticket, Err(Lost));
            return ticket;
        }
        let proc = client.proc;
        self.after(TIMEOUT, move |w| w.answer(id, ticket, Err(Lost)));
        let Some(client) = self.clients.all.get_mut(&id) else { return ticket };
        if client.broken || lost {
            self.note(|| format!("process {proc}: a request gets lost"));
            return ticket;
        }
        client.pending.push_back((ticket, request));
        client.busy = client.busy.max(self.now + delay);
        let delay = client.busy - self.now;
        self.after(delay, move |w| w.execute(id, ticket));
        ticket
    }

    /// Carries out the request, and whatever was sent before it.
    fn execute(&mut self, id: ClientId, ticket: RequestId) {
        loop {
            let Some(client) = self.clients.all.get_mut(&id) else { return };
            if client.pending.front().is_none_or(|(next, _)| *next > ticket) {
                return;
            }
            let Some((ticket, request)) = client.pending.pop_front() else { return };
            let site = client.site;
            let response = self.carry_out(site, request);
            let delay = self.rng.between(50 * US, 1500 * US);
            if self.faulty && self.rng.chance(self.config.faults.lost_answer) {
                self.note(|| format!("NATS {}: an answer gets lost", name(site)));
            } else {
                self.after(delay, move |w| w.answer(id, ticket, Ok(response)));
            }
        }
    }

    fn answer(&mut self, id: ClientId, ticket: RequestId, answer: Result<Response, Lost>) {
        let Some(client) = self.clients.all.get_mut(&id) else { return };
        if client.lost {
            return;
        }
        client.answers.entry(ticket).or_insert(answer);
        let proc = client.proc;
        self.wake(proc);
    }

    fn carry_out(&mut self, site: NodeId, request: Request) -> Response {
        let info = |stream: &Stream| Info { created: stream.created, first: stream.first(), last: stream.last() };
        match request {
            Request::Info(which) => Response::Info(info(self.stream(site, which))),
            Request::Get(which, seq) => {
                let stream = self.stream(site, which);
                Response::Messages(stream.get(seq).cloned().into_iter().collect(), info(stream))
            }
            Request::After(time) => {
                let stream = self.stream(site, Which::Data);
                Response::Messages(stream.from(0).find(|m| m.time > time).cloned().into_iter().collect(), info(stream))
            }
            Request::Read { which, from, max, subject } => {
                let stream = self.stream(site, which);
                let wanted = |m: &&Message| subject.as_ref().is_none_or(|subject| *subject == *m.subject);
                Response::Messages(stream.from(from).filter(wanted).take(max).cloned().collect(), info(stream))
            }
            Request::Append { which, subject, headers, payload, expected } => {
                let now = self.stamp();
                match self.stream_mut(site, which).append(now, &subject, headers, payload, expected) {
                    Ok(message) => {
                        let seq = message.seq;
                        self.note(|| format!("NATS {}: {which:?} stores {seq} {subject}", name(site)));
                        self.stored(site, which, &message);
                        Response::Stored(seq)
                    }
                    Err(_) => {
                        self.note(|| format!("NATS {}: {which:?} refuses {subject}", name(site)));
                        Response::Refused
                    }
                }
            }
            Request::Delete(which, seq) => {
                if let Some(message) = self.stream_mut(site, which).delete(seq) {
                    self.note(|| format!("NATS {}: {which:?} deletes {seq}", name(site)));
                    match which {
                        Which::State => self.history.state_gone(site, &message),
                        Which::Data => self.history.displaced(site, &message),
                    }
                }
                Response::Deleted
            }
            Request::Purge(subject, below) => {
                for message in self.sites[site].state.purge(&subject, below) {
                    self.history.state_gone(site, &message);
                }
                self.note(|| format!("NATS {}: purges {subject} below {below}", name(site)));
                Response::Deleted
            }
        }
    }

    fn stream(&self, site: NodeId, which: Which) -> &Stream {
        match which {
            Which::Data => &self.sites[site].data,
            Which::State => &self.sites[site].state,
        }
    }

    fn stream_mut(&mut self, site: NodeId, which: Which) -> &mut Stream {
        match which {
            Which::Data => &mut self.sites[site].data,
            Which::State => &mut self.sites[site].state,
        }
    }

    /// A message was stored: the checker looks at it, and who follows the stream hears of it.
    pub fn stored(&mut self, site: NodeId, which: Which, message: &Message) {
        if which == Which::State {
            self.history.state_stored(site, message, &self.sites);
            for operation in operations_of(message) {
                self.goods.signed(site, message, operation.author(), operation.entries());
            }
            return;
        }
        self.history.data_stored(site, message);
        let mut procs = Vec::new();
        for client in self.clients.all.values_mut().filter(|client| client.site == site && !client.broken) {
            client.news = true;
            procs.push(client.proc);
        }
        for proc in procs {
            let delay = self.rng.between(50 * US, 2 * MS);
            self.after(delay, move |w| w.wake(proc));
        }
    }

    /// A message went away from a state stream against rhio's will.
    pub fn state_gone(&mut self, site: NodeId, message: &Message) {
        self.history.state_gone(site, message);
        for operation in operations_of(message) {
            self.goods.forgotten(site, operation.author(), operation.entries());
        }
    }

    /// Breaks connections. A beginning of what is under way is carried out, perhaps with one left out of the middle.
    pub fn break_clients(&mut self, which: impl Fn(&Client) -> bool) {
        let ids: Vec<_> = self.clients.all.iter().filter(|(_, c)| which(c)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.break_client(id));
    }

    fn break_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.all.get_mut(&id).filter(|client| !client.broken) {
            client.broken = true;
            let (site, pending) = (client.site, std::mem::take(&mut client.pending));
            let keep = self.rng.below(pending.len() as u64 + 1) as usize;
            let skip = if self.rng.chance(self.config.faults.hole) { self.rng.below(keep as u64) } else { u64::MAX };
            for (n, (_, request)) in pending.into_iter().take(keep).enumerate() {
                if n as u64 != skip {
                    self.carry_out(site, request);
                }
            }
            let delay = self.rng.below(50 * MS);
            self.after(delay, move |w| w.lose(id));
        }
    }

    /// The process notices that its connection is gone.
    fn lose(&mut self, id: ClientId) {
        if let Some(client) = self.clients.all.get_mut(&id) {
            client.lost = true;
            let proc = client.proc;
            self.wake(proc);
        }
    }
}

/// A request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(RequestId);

/// A process's handle of its connection.
#[derive(Clone)]
pub struct Nats {
    cx: Cx,
    id: ClientId,
    /// Which run of the server it leads to.
    pub server: u64,
}

impl Nats {
    /// Connects, however long it takes.
    pub async fn connect(cx: &Cx) -> Self {
        loop {
            cx.sleep(cx.between(MS, 20 * MS)).await;
            if let Some((id, server)) = cx.with(|w| w.connect(cx.proc, cx.node)) {
                return Self { cx: cx.clone(), id, server };
            }
            cx.sleep(100 * MS).await;
        }
    }

    /// Whether the connection is known to be gone.
    pub fn check(&self) -> Result<(), Lost> {
        let lost = self.cx.with(|w| w.clients.all.get(&self.id).is_none_or(|client| client.lost));
        if lost { Err(Lost) } else { Ok(()) }
    }

    /// Ends the connection from this side.
    pub fn close(&self) {
        self.cx.with(|w| {
            w.break_client(self.id);
            w.lose(self.id);
        });
    }

    /// Claims an author's messages for this connection: no other one writes them until it has ended, with everything
    /// that was sent on it. Returns whether it may. (The daemon does that with a subject that the server knows to be
    /// listened to as long as the connection lasts.)
    pub fn claim(&self, author: NodeId) -> bool {
        self.cx.with(|w| {
            let all = &mut w.clients.all;
            let site = self.cx.node;
            let taken = |(id, c): (&ClientId, &Client)| {
                *id != self.id && !c.broken && c.site == site && c.claim == Some(author)
            };
            if all.iter().any(taken) {
                return false;
            }
            all.get_mut(&self.id).is_some_and(|client| {
                client.claim = Some(author);
                true
            })
        })
    }

    /// Whether the users' stream has grown since this was last asked.
    pub fn news(&self) -> bool {
        self.cx.with(|w| w.clients.all.get_mut(&self.id).is_some_and(|client| std::mem::take(&mut client.news)))
    }

    /// Sends a request.
    pub fn send(&self, request: Request) -> Ticket {
        Ticket(self.cx.with(|w| w.request(self.id, request)))
    }

    /// The answer, if it is there.
    pub fn poll(&self, ticket: Ticket) -> Option<Result<Response, Lost>> {
        self.cx.with(|w| {
            let client = w.clients.all.get_mut(&self.id)?;
            let answer = client.answers.remove(&ticket.0);
            answer.or(client.lost.then_some(Err(Lost)))
        })
    }

    /// Sends a request and waits for the answer.
    pub async fn call(&self, request: Request) -> Result<Response, Lost> {
        let ticket = self.send(request);
        self.cx.until(|| self.poll(ticket)).await
    }

    /// What a stream says of itself.
    pub async fn info(&self, which: Which) -> Result<Info, Lost> {
        match self.call(Request::Info(which)).await? {
            Response::Info(info) => Ok(info),
            _ => Err(Lost),
        }
    }

    /// Asks for messages.
    pub async fn messages(&self, request: Request) -> Result<Vec<Message>, Lost> {
        match self.call(request).await? {
            Response::Messages(messages, _) => Ok(messages),
            _ => Err(Lost),
        }
    }

    /// Everything that the state stream has under a subject.
    pub async fn state(&self, subject: Option<String>) -> Result<Vec<Message>, Lost> {
        self.messages(Request::Read { which: Which::State, from: 0, max: usize::MAX, subject }).await
    }

    /// Drops what the state stream has under a subject below a number.
    pub async fn purge(&self, subject: &str, below: u64) -> Result<(), Lost> {
        self.call(Request::Purge(subject.to_owned(), below)).await.map(|_| ())
    }

    /// Appends to the state stream behind the message `expected` of the subject.
    pub async fn put(&self, subject: &str, payload: Bytes, expected: Option<u64>) -> Result<Option<u64>, Lost> {
        let (which, subject, headers) = (Which::State, subject.to_owned(), Vec::new());
        match self.call(Request::Append { which, subject, headers, payload, expected }).await? {
            Response::Stored(seq) => Ok(Some(seq)),
            Response::Refused => Ok(None),
            _ => Err(Lost),
        }
    }
}

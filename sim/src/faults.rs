//! What goes wrong, and when. Each kind of fault strikes at random intervals for as long as the run is faulty.

use bytes::{BufMut, BytesMut};

use crate::base::{MS, NodeId, SECOND, name};
use crate::history::is_replica;
use crate::jetstream::{Forgotten, Message, Stream};
use crate::nats::Which;
use crate::world::World;

type Strike = fn(&mut World);

impl World {
    /// Starts the nodes, the apps and the faults.
    pub fn begin(&mut self) {
        for node in 0..self.sites.len() {
            self.start(node);
        }
        self.publish_later();
        self.begin_goods();
        let f = self.config.faults.clone();
        let kinds: [(u64, Strike); 9] = [
            (f.mean_kill, Self::strike_kill),
            (f.mean_twin, Self::strike_twin),
            (f.mean_blip, Self::strike_blip),
            (f.mean_restart, Self::strike_restart),
            (f.mean_cut, Self::strike_cut),
            (f.mean_recreate, Self::strike_recreate),
            (f.mean_break, Self::strike_break),
            (f.mean_part, Self::strike_part),
            (f.mean_remove, Self::strike_remove),
        ];
        kinds.into_iter().filter(|(mean, _)| *mean > 0).for_each(|(mean, strike)| self.strike_later(mean, strike));
        let active = self.config.active;
        self.after(active, Self::heal);
    }

    fn strike_later(&mut self, mean: u64, strike: Strike) {
        let delay = self.rng.below(2 * mean);
        self.after(delay, move |w| {
            if w.faulty {
                strike(w);
                w.strike_later(mean, strike);
            }
        });
    }

    /// From here on nothing goes wrong any more, and every node runs once.
    fn heal(&mut self) {
        self.note(|| "no more faults".to_owned());
        self.faulty = false;
        self.net.parted.clear();
        self.sites.iter_mut().for_each(|site| site.bucket.hidden = false);
        for node in 0..self.sites.len() {
            self.sites[node].up = true;
            let running: Vec<_> = self.procs.iter().filter(|(_, of)| **of == node).map(|(proc, _)| *proc).collect();
            running.iter().skip(1).for_each(|proc| self.kill(*proc));
            if running.is_empty() {
                self.start(node);
            }
        }
    }

    /// Apps publish in bursts and pauses.
    fn publish_later(&mut self) {
        if self.history.published.len() as u64 >= self.config.messages {
            return;
        }
        let mean = self.config.active / (self.config.messages + 1);
        let delay = if self.rng.chance(500) { self.rng.below(MS) } else { self.rng.below(4 * mean) };
        self.after(delay, |w| {
            let site = if w.rng.chance(700) { 0 } else { w.random_site() };
            if w.sites[site].up {
                w.publish(site);
            }
            w.publish_later();
        });
    }

    fn publish(&mut self, site: NodeId) {
        let subjects = ["a.x", "a.x", "a.y", "b.x"];
        let subject = subjects[self.rng.below(subjects.len() as u64) as usize];
        let id = self.history.published.len();
        let mut payload = BytesMut::new();
        payload.put_u64(id as u64);
        payload.put_bytes(b'.', self.rng.below(20) as usize);
        let now = self.stamp();
        let stream = &mut self.sites[site].data;
        if let Ok(message) = stream.append(now, subject, vec![], payload.freeze(), None) {
            let created = stream.created;
            self.note(|| format!("an app publishes message {id} at {}, as {} on {subject}", name(site), message.seq));
            self.history.publish(site, created, &message);
            self.stored(site, Which::Data, &message);
        }
    }

    fn random_site(&mut self) -> NodeId {
        self.rng.below(self.sites.len() as u64) as NodeId
    }

    fn random_proc(&mut self) -> Option<u32> {
        let at = self.rng.below(self.procs.len() as u64) as usize;
        self.procs.keys().nth(at).copied()
    }

    fn start_later(&mut self, node: NodeId) {
        let delay = if self.rng.chance(700) { self.rng.below(300 * MS) } else { self.rng.below(6 * SECOND) };
        self.after(delay, move |w| {
            if w.procs.values().all(|running| *running != node) {
                w.start(node);
            }
        });
    }

    fn strike_kill(&mut self) {
        if let Some(proc) = self.random_proc() {
            let node = self.procs[&proc];
            self.kill(proc);
            self.start_later(node);
        }
    }

    /// Later one of the two ends, whichever.
    fn strike_twin(&mut self) {
        // In runs about buckets only authors have twins: see [`Config::draw_buckets`].
        let node = if self.config.buckets.is_some() { 0 } else { self.random_site() };
        if self.procs.values().filter(|of| **of == node).count() != 1 {
            return;
        }
        self.start(node);
        let delay = self.rng.between(SECOND / 2, 6 * SECOND);
        self.after(delay, move |w| {
            let running: Vec<_> = w.procs.iter().filter(|(_, of)| **of == node).map(|(proc, _)| *proc).collect();
            if let [first, second] = running[..] {
                let unlucky = if w.rng.chance(500) { first } else { second };
                w.kill(unlucky);
            }
        });
    }

    fn strike_blip(&mut self) {
        let proc = self.random_proc();
        self.break_clients(|client| Some(client.proc) == proc);
    }

    fn strike_restart(&mut self) {
        let site = self.random_site();
        self.restart(site, 0, 0);
    }

    /// The node loses power as a whole, or only its NATS server does.
    fn strike_cut(&mut self) {
        let site = self.random_site();
        let depth = self.config.faults.cut_depth;
        let data = if self.rng.chance(600) { self.rng.between(1, depth) } else { 0 };
        let state = if self.rng.chance(600) { self.rng.between(1, depth) } else { 0 };
        if self.rng.chance(500) {
            let procs: Vec<_> = self.procs.iter().filter(|(_, of)| **of == site).map(|(proc, _)| *proc).collect();
            procs.into_iter().for_each(|proc| self.kill(proc));
            self.start_later(site);
        }
        self.restart(site, data as usize, state as usize);
    }

    fn restart(&mut self, site: NodeId, data: usize, state: usize) {
        if !self.sites[site].up {
            return;
        }
        self.note(|| format!("NATS {} restarts; forgets {data} of data, {state} of state", name(site)));
        self.break_clients(|client| client.site == site);
        let now = self.now;
        let server = &mut self.sites[site];
        server.up = false;
        server.identity += 1;
        let (data, state) = (server.data.forget(data), server.state.forget(state));
        if !data.is_empty() || !state.is_empty() {
            server.unnoticed = now + 60 * MS;
        }
        for change in state {
            // A commit whose *delete* was forgotten is back, and its operations do not count when forks are looked for:
            // the reader may have answered a recall in between, and then the author goes another way. The two notice at
            // the next pull, and a new log is begun.
            if let Forgotten::Message(message) = change {
                self.state_gone(site, &message);
            }
        }
        for change in data {
            match change {
                Forgotten::Message(message) => {
                    self.note(|| format!("NATS {} forgets data {}", name(site), message.seq));
                    self.history.data_gone(site, &message, true, &self.sites);
                }
                Forgotten::Delete(message) => self.history.data_back(site, &message),
            }
        }
        let delay = self.rng.between(20 * MS, 2 * SECOND);
        self.after(delay, move |w| {
            w.note(|| format!("NATS {} is up", name(site)));
            w.sites[site].up = true;
        });
    }

    fn strike_recreate(&mut self) {
        let site = self.random_site();
        if !self.sites[site].up {
            return;
        }
        self.note(|| format!("the users' stream at {} is deleted and created again", name(site)));
        let old = std::mem::replace(&mut self.sites[site].data, Stream::new(self.now));
        // Subscribers look once a second.
        self.sites[site].unnoticed = self.now + SECOND + SECOND / 10;
        for message in old.from(0) {
            // A reader's stream that is gone is filled again, as after a power cut.
            let forgotten = is_replica(message);
            self.history.data_gone(site, message, forgotten, &self.sites);
        }
    }

    fn strike_break(&mut self) {
        let proc = self.random_proc();
        self.break_conns(|conn| proc.is_some_and(|proc| conn.procs.contains(&proc)));
    }

    fn strike_part(&mut self) {
        let pair = (self.random_site(), self.random_site());
        self.note(|| format!("{} and {} can't reach each other", name(pair.0), name(pair.1)));
        self.net.parted.push(pair);
        self.break_conns(|conn| conn.nodes == [pair.0, pair.1] || conn.nodes == [pair.1, pair.0]);
        let delay = self.rng.between(SECOND / 10, 6 * SECOND);
        self.after(delay, move |w| w.net.parted.retain(|parted| *parted != pair));
    }

    /// Someone deletes a message of an app, or the oldest expire.
    ///
    /// Not at a reader when the message has a number that was given twice: a stream that forgot the end of what was
    /// written to it, grew again to the same length, and then lost just those messages, looks like one that forgot
    /// nothing. What it lost stays lost; there is nothing to see it by.
    fn strike_remove(&mut self) {
        let site = self.random_site();
        if !self.sites[site].up {
            return;
        }
        let reads = !self.config.nodes[site].subscriptions.is_empty();
        let stream = &self.sites[site].data;
        let may_go = |m: &&Message| !is_replica(m) && (!reads || !stream.is_again(m.seq));
        let count = stream.from(0).count() as u64;
        let seqs: Vec<_> = if self.rng.chance(700) {
            let at = self.rng.below(count) as usize;
            stream.from(0).filter(may_go).map(|m| m.seq).skip(at).take(1).collect()
        } else {
            let some = self.rng.below(count / 2 + 1) as usize;
            stream.from(0).take(some).take_while(may_go).map(|m| m.seq).collect()
        };
        for seq in seqs {
            if let Some(message) = self.sites[site].data.delete(seq) {
                self.note(|| format!("data {seq} is removed at {}", name(site)));
                self.history.data_gone(site, &message, false, &self.sites);
            }
        }
    }
}

//! The subscriber's side of a bucket, with an author that may say anything in its log and a caller that may end tasks in
//! any way: nothing panics, the sums stay right, and what is wanted in the end becomes a task.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use rhio_core::catalog::landing::{Deletes, Lag, Landing, Outcome, Task};
use rhio_core::catalog::progress::Progress;
use rhio_core::catalog::{Entry, Put};
use rhio_core::id::BlobHash;
use rhio_core::object::{Attributes, ObjectKey};

/// A script of events.
pub fn run(input: &[u8]) {
    // A script that ends early is a short one.
    let _ = play(&mut Unstructured::new(input));
}

/// The landing and the tasks that are out.
struct Game {
    deletes: Deletes,
    landing: Landing,
    flights: Vec<Task>,
    now: u64,
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let deletes = if u.arbitrary()? { Deletes::Follow } else { Deletes::Keep };
    let mut game = Game { deletes, landing: Landing::new(deletes), flights: Vec::new(), now: 0 };
    let mut ending = Ok(());
    while ending.is_ok() && !u.is_empty() {
        ending = game.step(u);
    }
    game.finish();
    ending
}

fn entry(u: &mut Unstructured<'_>) -> Result<Entry> {
    // More keys than deletes that are never held.
    let key = ObjectKey::new(u.int_in_range(0..=15u8)?.to_string()).expect("a key");
    Ok(match u.int_in_range(0..=7u8)? {
        0 => Entry::Complete,
        1..=3 => Entry::Delete(key),
        _ => {
            let size = *u.choose(&[0, 1, u64::MAX])?;
            let (hash, etag) = (BlobHash::from_bytes([u.int_in_range(0..=2)?; 32]), String::new());
            Entry::Put(Put { key, hash, size, modified: 0, etag, attributes: Attributes::default() })
        }
    })
}

impl Game {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=11u8)? {
            0..=2 => {
                let said = (0..u.int_in_range(1..=8u8)?).map(|_| entry(u)).collect::<Result<Vec<_>>>()?;
                self.landing.receive(self.landing.received(), &said, self.now);
            }
            3..=5 => self.take(),
            6..=7 if !self.flights.is_empty() => {
                let at = u.choose_index(self.flights.len())?;
                let task = self.flights.swap_remove(at);
                match u.int_in_range(0..=3u8)? {
                    0 => self.landing.fail(task.key(), task.entry(), self.now),
                    1 => self.landing.settle(task.key(), task.entry(), Outcome::Kept, self.now),
                    _ => self.landing.settle(task.key(), task.entry(), Outcome::Done, self.now),
                }
            }
            8 => self.now = self.now.saturating_add(u64::from(u.arbitrary::<u32>()?)),
            9 => self.landing.confirm_deletes(),
            10 => self.succeed(),
            _ => self.restart(u)?,
        }
        self.check();
        Ok(())
    }

    fn take(&mut self) {
        let Some(task) = self.landing.next(self.now) else { return };
        assert!(self.landing.is_current(task.key(), task.entry()));
        assert!(self.flights.iter().all(|flight| flight.key() != task.key()), "two tasks for one key");
        assert!(self.deletes == Deletes::Follow || matches!(task, Task::Land { .. }));
        self.flights.push(task);
    }

    fn succeed(&mut self) {
        let old = std::mem::replace(&mut self.landing, Landing::new(self.deletes));
        self.landing = Landing::succeed(old);
    }

    /// With whatever progress the storage has, and a log that is another one.
    fn restart(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.flights.clear();
        self.landing = Landing::new(self.deletes);
        let mut progress = Progress::decode(Bytes::copy_from_slice(u.bytes(6)?)).unwrap_or_default();
        (0..u.int_in_range(0..=8u8)?).try_for_each(|_| u.int_in_range(0..=20).map(|entry| progress.insert(entry)))?;
        self.landing.restore(progress);
        let said = (0..u.int_in_range(0..=16u8)?).map(|_| entry(u)).collect::<Result<Vec<_>>>()?;
        self.landing.receive(0, &said, self.now);
        self.landing.start();
        Ok(())
    }

    fn check(&self) {
        let lag = self.landing.lag();
        assert!(lag.objects >= self.landing.conflicts() as u64);
        assert_eq!(self.landing.conflicting().count(), self.landing.conflicts());
        assert!(lag.objects + lag.removals <= 16 && self.landing.landed() <= 16);
        let held = self.landing.deletes_held();
        assert!(held.is_none_or(|held| held.count as u64 <= lag.removals && held.of == self.landing.landed()));
        let progress = self.landing.progress();
        assert!(progress.low() <= progress.received() && self.landing.received() <= progress.received());
    }

    /// When nothing fails any more, everything is settled.
    fn finish(&mut self) {
        for task in std::mem::take(&mut self.flights) {
            self.landing.settle(task.key(), task.entry(), Outcome::Done, self.now);
        }
        self.landing.confirm_deletes();
        while let Some(due) = self.landing.next_due() {
            self.now = self.now.max(due);
            let task = self.landing.next(self.now).expect("something is due");
            self.landing.settle(task.key(), task.entry(), Outcome::Done, self.now);
            self.check();
        }
        assert_eq!(self.landing.lag(), Lag::default());
        assert_eq!(self.landing.progress().low(), self.landing.received(), "an entry is never settled");
    }
}

//! Runs the processes. A process is a few plain `async` functions, polled whenever something happened that concerns it;
//! killing it drops them wherever they wait, with all that they knew. No threads, no wakers, no real time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::base::{NodeId, ProcId};
use crate::world::{Task, World};

/// Something that a task has under way beside other things.
pub type Job<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a job has given, once it has ended.
pub fn ended<T>(job: &mut Option<Job<T>>) -> Option<T> {
    match job.as_mut()?.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(given) => {
            *job = None;
            Some(given)
        }
        Poll::Pending => None,
    }
}

/// What the first of some jobs has given that has ended.
pub fn first_ended<T>(jobs: &mut Vec<Job<T>>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    for at in 0..jobs.len() {
        if let Poll::Ready(given) = jobs[at].as_mut().poll(&mut cx) {
            drop(jobs.remove(at));
            return Some(given);
        }
    }
    None
}

/// A process's access to the world.
#[derive(Clone)]
pub struct Cx {
    world: Rc<RefCell<World>>,
    /// The process.
    pub proc: ProcId,
    /// The node that it belongs to.
    pub node: NodeId,
}

impl Cx {
    /// Does something in the world.
    pub fn with<R>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        f(&mut self.world.borrow_mut())
    }

    /// What time it is, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.with(|w| w.now)
    }

    /// Waits until the answer is there.
    pub async fn until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> T {
        poll_fn(|_| ask().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Waits until something happened: an answer, a frame, a timer, or another task's [`Cx::touch`].
    pub async fn changed(&self) {
        let mut first = true;
        self.until(|| if std::mem::take(&mut first) { None } else { Some(()) }).await;
    }

    /// Tells the process's other tasks that something changed.
    pub fn touch(&self) {
        self.with(|w| w.wake(self.proc));
    }

    /// Has the process look again later.
    pub fn look_in(&self, delay: u64) {
        let proc = self.proc;
        self.with(|w| w.after(delay, move |w| w.wake(proc)));
    }

    /// Waits.
    pub async fn sleep(&self, delay: u64) {
        let end = self.now() + delay;
        self.look_in(delay);
        self.until(|| (self.now() >= end).then_some(())).await;
    }

    /// A number between the two, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.with(|w| w.rng.between(low, high))
    }

    /// Starts another task of this process.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.with(|w| w.spawn(self.proc, Box::pin(task)));
    }

    /// Notes what happens.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let (proc, node) = (self.proc, self.node);
        self.with(|w| w.note(|| format!("{}/{proc}: {}", crate::base::name(node), text())));
    }
}

/// The world and what runs in it.
pub struct Sim {
    world: Rc<RefCell<World>>,
    tasks: BTreeMap<ProcId, Vec<Task>>,
    program: fn(Cx) -> Task,
}

impl Sim {
    /// Takes a world over, in which every process runs this program.
    pub fn new(world: World, program: fn(Cx) -> Task) -> Self {
        Self { world: Rc::new(RefCell::new(world)), tasks: BTreeMap::new(), program }
    }

    /// Looks at the world, or changes it.
    pub fn with<R>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        f(&mut self.world.borrow_mut())
    }

    /// Lets everything happen up to a time, or until `stop` says so after an event.
    pub fn run(&mut self, end: u64, mut stop: impl FnMut(&mut World) -> bool) {
        loop {
            self.settle();
            if self.with(&mut stop) || !self.with(|w| w.step(end)) {
                return;
            }
        }
    }

    /// Lets every process act on what happened, until none has anything left to do at this moment.
    fn settle(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            for (proc, node) in self.with(World::take_started) {
                let cx = Cx { world: Rc::clone(&self.world), proc, node };
                self.tasks.insert(proc, vec![(self.program)(cx)]);
                self.with(|w| w.wake(proc));
            }
            for (proc, task) in self.with(World::take_spawned) {
                if let Some(tasks) = self.tasks.get_mut(&proc) {
                    tasks.push(task);
                }
            }
            let Some(proc) = self.with(World::take_ready) else { return };
            if !self.with(|w| w.procs.contains_key(&proc)) {
                self.tasks.remove(&proc);
            } else if let Some(tasks) = self.tasks.get_mut(&proc) {
                tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
            }
        }
    }
}

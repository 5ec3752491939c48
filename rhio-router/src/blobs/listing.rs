//! Asks a subscription's task which objects it knows of: only the task has them.

use rhio_core::catalog::landing::{Landing, Listed};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Questions that wait; more wait outside.
const BACKLOG: usize = 4;

/// Objects, and where the next page begins.
pub type Page = (Vec<Listed>, Option<usize>);

/// Asks for one page, as [`Landing::page`] has it.
#[derive(Debug)]
pub struct Question {
    from: usize,
    max: usize,
    answer: oneshot::Sender<Page>,
}

impl Question {
    /// Answers it.
    pub fn answer(self, plan: &Landing) {
        // Whoever asked may have gone.
        let _ = self.answer.send(plan.page(self.from, self.max));
    }
}

/// The way to the task.
#[derive(Debug)]
pub struct Desk {
    ask: mpsc::Sender<Question>,
    /// Held by the task while it can answer.
    pub questions: Mutex<mpsc::Receiver<Question>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (ask, questions) = mpsc::channel(BACKLOG);
        Self { ask, questions: Mutex::new(questions) }
    }
}

impl Desk {
    /// Asks for a page. Waits while the task can't answer, so it needs a deadline. `None` when the task is gone.
    pub async fn page(&self, from: usize, max: usize) -> Option<Page> {
        let (answer, page) = oneshot::channel();
        self.ask.send(Question { from, max, answer }).await.ok()?;
        page.await.ok()
    }
}

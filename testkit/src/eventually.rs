//! Waiting for a condition instead of sleeping.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Stretches a deadline by the factor in `RHIO_TEST_PATIENCE` (such as `3` on a slow machine).
pub fn patience(deadline: Duration) -> Duration {
    let factor = std::env::var("RHIO_TEST_PATIENCE").ok().and_then(|text| text.parse::<f64>().ok());
    match factor {
        Some(factor) if factor.is_finite() && factor > 0.0 => deadline.mul_f64(factor),
        _ => deadline,
    }
}

/// What an attempt came to: a value, or the reason to try again.
pub trait Verdict {
    /// What a successful attempt yields.
    type Value;
    /// The value, or why there is none yet.
    fn verdict(self) -> Result<Self::Value, String>;
}

impl Verdict for bool {
    type Value = ();
    fn verdict(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it stayed false".into())
    }
}

impl<T> Verdict for Option<T> {
    type Value = T;
    fn verdict(self) -> Result<T, String> {
        self.ok_or_else(|| "there was none".into())
    }
}

impl<T, E: Debug> Verdict for Result<T, E> {
    type Value = T;
    fn verdict(self) -> Result<T, String> {
        self.map_err(|e| format!("{e:?}"))
    }
}

/// The clock of one wait: how long it has gone on and how long to pause before the next attempt.
#[derive(Debug)]
pub struct Poll {
    started: Instant,
    deadline: Duration,
    pause: Duration,
}

impl Poll {
    /// Starts the clock. The deadline is stretched by [`patience`].
    pub fn new(deadline: Duration) -> Self {
        Self { started: Instant::now(), deadline: patience(deadline), pause: FIRST_PAUSE }
    }

    /// Whether the deadline is over.
    pub fn is_over(&self) -> bool {
        self.started.elapsed() >= self.deadline
    }

    /// Fails the test when the deadline is over.
    #[track_caller]
    pub fn check(&self, what: &dyn Display, reason: &str) {
        assert!(!self.is_over(), "waited {:.1} s in vain for {what}: {reason}", self.started.elapsed().as_secs_f64());
    }

    /// A short pause, longer each time.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// The same for code that is not async.
    pub fn pause_blocking(&mut self) {
        std::thread::sleep(self.next_pause());
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Evaluates an expression until it is `true`, `Some` or `Ok`, and yields its value; fails the test when that did
/// not happen in time. The expression may use `.await`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// let mut n = 0;
/// testkit::eventually!(Duration::from_secs(5), "the counter to reach 3", {
///     n += 1;
///     n >= 3
/// });
/// # }
/// ```
#[macro_export]
macro_rules! eventually {
    ($deadline:expr, $what:expr, $attempt:expr $(,)?) => {{
        let mut poll = $crate::Poll::new($deadline);
        loop {
            match $crate::Verdict::verdict($attempt) {
                Ok(value) => break value,
                Err(reason) => poll.check(&$what, &reason),
            }
            poll.pause().await;
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn yields_the_value_of_the_attempt_that_worked() {
        let mut attempts = 0;
        let value = eventually!(Duration::from_secs(5), "three attempts", {
            attempts += 1;
            if attempts < 3 { Err("not yet") } else { Ok(attempts) }
        });
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain for pigs to fly: it stayed false")]
    async fn gives_up_after_the_deadline_and_says_on_what() {
        eventually!(Duration::from_millis(20), "pigs to fly", false);
    }
}

//! What is the same for every log, whatever it is about.
//!
//! A log is a chain of signed operations that one author writes about one thing: a [`descriptor`] names it, a [`body`]
//! is what an [`operation`] says. [`chain`] checks what must hold between one operation and the next; whoever reads a
//! log uses it. [`writer`] keeps the one invariant of whoever writes one. [`session`] serves a log from a number on,
//! [`commit`] is how operations stand in the state stream, and [`start`] tells a reader which log's turn it is.

pub mod body;
pub mod chain;
pub mod commit;
pub mod descriptor;
pub mod operation;
pub mod session;
pub mod start;
pub mod total;
pub mod writer;

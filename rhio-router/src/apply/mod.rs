//! The subscriber's side: [`following`] learns which logs an author has and starts an [`applying`] task for each, in
//! the order in which they were written; [`cursor`] finds out where a log was left.

mod apply_error;
pub mod applying;
pub mod cursor;
pub mod following;
pub mod subscription;

//! What operators and apps ask of a running node.
//!
//! [`checks`] looks at what the node needs; [`overview`] puts that together with what the tasks say of themselves, as
//! the types of [`model`]; [`http`] and [`service`] hand it out, [`exposition`] as metrics. [`ask`] gets it from a
//! running node, [`render`] makes text of it, and [`show`] is `rhio status`.

pub mod ask;
pub mod checks;
pub mod describe;
pub mod exposition;
pub mod health;
pub mod history;
pub mod http;
pub mod model;
pub mod overview;
pub mod render;
pub mod service;
pub mod show;
pub mod times;

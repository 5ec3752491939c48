//! What operators and apps ask of a running node.

pub mod model;
pub mod service;

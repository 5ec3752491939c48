//! What operators and apps ask of a running node.

pub mod ask;
pub mod model;
pub mod render;
pub mod service;
pub mod show;

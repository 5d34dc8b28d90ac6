//! The sandbox: components are compiled once, instantiated cheaply, called with columns, and never trusted.

mod settings;

pub use settings::{Setting, Settings};

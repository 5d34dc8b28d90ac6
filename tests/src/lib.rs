//! What the end-to-end tests share: running pipelines in process, real servers to test against.

pub mod broker;
pub mod built;
pub mod hdfs;
pub mod minio;
pub mod proxy;
pub mod run;
mod server;

//! Processes that stand still, brokers that die, networks that fail.

use std::time::Duration;

use millstream_tests::broker::free_ports;
use millstream_tests::proxy::Proxy;

use super::*;
use crate::broker_or_return;

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The lock on the store keeps a second process out; taking it away is what a network file system without locks does.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_wakes_up_after_another_has_taken_over_changes_nothing() {
    let broker = broker_or_return!();
    for after_ms in [0, 17, 61, 107] {
        let job = Job::new(broker, "zombie", "retain = 2").await;
        let zombie = job.start(&["--parallelism", "2"]);
        while !job.path("state/numbers/0000000002/manifest").exists() {
            sleep(1);
        }
        sleep(after_ms);
        zombie.signal("STOP");
        let _ = std::fs::remove_file(job.path("state/numbers/lease"));
        job.run(&["--parallelism", "3"]).expect(0);
        job.assert_once("while the other stands still");
        zombie.signal("CONT");
        // by the broker or by the store, whichever it asks first
        zombie.finish().expect(1).says(&["shut out"]);
        job.assert_once("after it woke up");
        // what it may have removed late is not what the last marker names
        job.run(&[]).expect(0).says(&["had been read"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_for_too_long_says_what_it_has_lost_and_a_start_makes_it_again() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "expired", "transaction_timeout = \"1s\"").await;
    let process = job.start(&[]);
    sleep(550);
    process.signal("STOP");
    // the broker looks for expired transactions every ten seconds
    sleep(12_500);
    process.signal("CONT");
    let ended = process.finish();
    if ended.code != Some(0) {
        ended.expect(1).says(&["epoch", "the pipeline again"]);
    }
    job.run(&[]).expect(0);
    job.assert_once("expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_is_waited_for() {
    let Some(broker) = Broker::start().unwrap() else { return };
    let job = Job::new(&broker, "outage", "transaction_timeout = \"2m\"").await;
    let process = job.start(&["--parallelism", "2"]);
    sleep(600);
    broker.kill9().unwrap();
    broker.restart().unwrap();
    process.finish().expect(0);
    job.assert_once("the broker was killed");
}

/// A broker whose second listener is reached through a proxy.
fn behind_a_proxy() -> Option<(Broker, Proxy)> {
    let (inner, outer) = free_ports().unwrap();
    let broker = Broker::start_with(|_, port| {
        Ok(format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{{controller_port}}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{outer}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        ))
    });
    Some((broker.unwrap()?, Proxy::start(outer, inner).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_slow_silent_or_cut_delays_rows_and_loses_none() {
    let Some((broker, proxy)) = behind_a_proxy() else { return };
    let job = Job::new(&broker, "network", "transaction_timeout = \"2m\"").await;
    let text = std::fs::read_to_string(job.path("pipeline.toml")).unwrap();
    std::fs::write(job.path("pipeline.toml"), text.replace(&broker.bootstrap(), &proxy.address())).unwrap();
    let process = job.start(&["--parallelism", "2"]);
    while proxy.passed() < 100_000 {
        sleep(5);
    }
    for _ in 0..2 {
        proxy.delay(Duration::from_millis(40));
        sleep(300);
        proxy.delay(Duration::ZERO);
        proxy.stall();
        sleep(400);
        proxy.open();
        sleep(100);
        proxy.cut();
        sleep(400);
        proxy.open();
        sleep(200);
    }
    process.finish().expect(0);
    job.assert_once("a bad network");
    assert!(proxy.passed() > 500_000, "{} bytes went through the proxy", proxy.passed());
}

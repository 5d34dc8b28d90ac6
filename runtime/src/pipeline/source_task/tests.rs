//! A source's task over a source that says what it is told to: what silence is, and who waits for whom.

use std::collections::VecDeque;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};

use super::*;
use crate::partition::Partitioner;
use crate::pipeline::change::{Change, Progress};
use crate::pipeline::dead_letter;
use crate::pipeline::exchange::Edge;
use crate::pipeline::task::Tail;
use crate::record::{BarrierId, Field, Kind, Schema};
use crate::source::{BoxFuture, DriftGroup, WatermarkSpec};

/// What the source says next.
enum Say {
    /// a row of a partition at this time
    Row(u32, i64),
    /// nothing, while the clock goes on for so many ms
    Silence(i64),
}

struct Script {
    says: VecDeque<Say>,
    clock: Clock,
}

impl Script {
    fn event(&mut self) -> SourceEvent {
        match self.says.pop_front() {
            None => SourceEvent::End,
            Some(Say::Silence(ms)) => {
                self.clock.set_ms(self.clock.now_ms() + ms);
                SourceEvent::Quiet
            }
            Some(Say::Row(partition, time_ms)) => {
                let schema = Schema::new([Field::new("n", Kind::Int64)]);
                let column = std::sync::Arc::new(Int64Array::from(vec![time_ms]));
                let columns = RecordBatch::try_new(schema.arrow().clone(), vec![column]).unwrap();
                let batch = Batch::new(columns, vec![time_ms].into()).unwrap();
                SourceEvent::Batch { partition, batch, bad: Vec::new() }
            }
        }
    }
}

impl Source for Script {
    fn next(&mut self) -> BoxFuture<'_, Result<SourceEvent, SourceError>> {
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(self.event())
        })
    }

    fn partitions(&self) -> Vec<u32> {
        vec![0, 1]
    }
}

/// The task of a script, idle after a second, and the channel that it writes to, which holds one element.
fn task(
    says: Vec<Say>,
    clock: &Clock,
    drift: Option<DriftMember>,
) -> (SourceTask, mpsc::Receiver<Element>, mpsc::Sender<Command>) {
    let (sender, elements) = mpsc::channel(1);
    let (commander, commands) = mpsc::channel(4);
    let (dead, _writer) = dead_letter::open(None, None, 0, None);
    let (_, mut reports) = Progress::new(1);
    let tail = Tail::Edges(vec![Edge::new(vec![sender], Partitioner::rebalance(1).unwrap())]);
    let chain = Chain::new(0, Vec::new(), tail, dead, reports.remove(0), clock.clone());
    let spec = WatermarkSpec { idle_after: Some(Duration::from_secs(1)), ..WatermarkSpec::default() };
    let mut watermarks = PartitionWatermarks::new(spec);
    watermarks.add(0, 0);
    watermarks.add(1, 0);
    let task = SourceTask {
        name: "script".into(),
        source: Box::new(Script { says: says.into(), clock: clock.clone() }),
        watermarks,
        on_error: OnError::Fail,
        commands,
        clock: clock.clone(),
        counters: Arc::default(),
        shuffle: None,
        chain,
        asked: AskedTime::default(),
        drift,
        marker: Marker::default(),
        capsules: None,
        paused: false,
        enough: None,
    };
    (task, elements, commander)
}

/// Elements in words: `r1000` a row, `w999` a watermark.
fn word(element: &Element) -> String {
    match element {
        Element::Batch(batch) => format!("r{}", batch.times()[0]),
        Element::Watermark(watermark) => format!("w{watermark}"),
        Element::Barrier(barrier) => format!("b{}", barrier.id.0),
        Element::Idle => "idle".into(),
        Element::Active => "active".into(),
        Element::End => "end".into(),
    }
}

async fn words(elements: &mut mpsc::Receiver<Element>) -> String {
    let mut words = Vec::new();
    while let Some(element) = elements.recv().await {
        words.push(word(&element));
    }
    words.join(" ")
}

async fn let_it_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_partition_that_is_silent_while_rows_are_asked_for_goes_idle() {
    let clock = Clock::virtual_at_ms(0);
    let says = vec![
        Say::Row(0, 1_000),
        Say::Row(1, 500),
        Say::Silence(900),
        Say::Row(0, 2_000),
        Say::Silence(100),
        Say::Row(1, 1_200),
        Say::Row(1, 3_000),
        Say::Silence(5_000),
    ];
    let (task, mut elements, _commands) = task(says, &clock, None);
    let run = tokio::spawn(run(task));
    let expected = "r1000 r500 w499 r2000 w1999 r1200 r3000 idle wend end";
    assert_eq!(words(&mut elements).await, expected);
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_partition_is_not_idle_because_the_pipeline_takes_nothing() {
    let clock = Clock::virtual_at_ms(0);
    let says = [(0, 1_000), (1, 500), (0, 2_000), (0, 3_000), (0, 4_000), (1, 3_500)];
    let says = says.map(|(partition, time_ms)| Say::Row(partition, time_ms)).into();
    let (task, mut elements, _commands) = task(says, &clock, None);
    let run = tokio::spawn(run(task));
    let mut taken = Vec::new();
    for _ in 0..4 {
        let_it_run().await;
        clock.set_ms(clock.now_ms() + 60_000);
        taken.push(word(&elements.recv().await.unwrap()));
    }
    assert_eq!(taken.join(" "), "r1000 r500 w499 r2000");
    assert_eq!(words(&mut elements).await, "r3000 r4000 r3500 w3499 wend end");
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_source_that_is_ahead_of_others_waits_but_lets_barriers_pass() {
    let clock = Clock::virtual_at_ms(0);
    let group = DriftGroup::new(2);
    let slow = group.member(1, Duration::from_secs(1));
    let says = vec![Say::Row(0, 5_000), Say::Row(1, 5_000), Say::Row(0, 6_000)];
    let (task, mut elements, commands) = task(says, &clock, Some(group.member(0, Duration::from_secs(1))));
    let run = tokio::spawn(run(task));
    for expected in ["r5000", "r5000", "w4999"] {
        assert_eq!(word(&elements.recv().await.unwrap()), expected);
    }
    let_it_run().await;
    assert!(elements.try_recv().is_err(), "the other has shown nothing yet");
    let barrier = Barrier { id: BarrierId(1), change: Arc::new(Change::default()) };
    commands.send(Command::Barrier(barrier)).await.unwrap();
    assert_eq!(word(&elements.recv().await.unwrap()), "b1");
    slow.reached(Some(Watermark(3_998)));
    let_it_run().await;
    assert!(elements.try_recv().is_err());
    slow.reached(Some(Watermark(3_999)));
    assert_eq!(words(&mut elements).await, "r6000 wend end");
    run.await.unwrap().unwrap();
    assert!(!slow.is_ahead());
}

#[tokio::test]
async fn a_source_that_waits_for_others_can_be_stopped() {
    let clock = Clock::virtual_at_ms(0);
    let group = DriftGroup::new(2);
    let _slow = group.member(1, Duration::from_secs(1));
    let says = vec![Say::Row(0, 5_000), Say::Row(1, 5_000), Say::Row(0, 6_000)];
    let (task, mut elements, commands) = task(says, &clock, Some(group.member(0, Duration::from_secs(1))));
    let run = tokio::spawn(run(task));
    let_it_run().await;
    commands.send(Command::Stop).await.unwrap();
    assert_eq!(words(&mut elements).await, "r5000 r5000 w4999 wend end");
    run.await.unwrap().unwrap();
}

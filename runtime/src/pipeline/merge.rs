//! Several inputs of a task as one: watermarks by minimum, barriers aligned, idle inputs left out. Pure.

use crate::record::{Barrier, Watermark};

/// A control element of one input, or of the merged stream.
#[derive(Clone, Debug)]
pub(super) enum Signal {
    /// progress of event time
    Watermark(Watermark),
    /// a cut
    Barrier(Barrier),
    /// sends nothing for now
    Idle,
    /// sends again
    Active,
    /// nothing follows
    End,
}

#[derive(Clone, Debug)]
struct Input {
    watermark: Watermark,
    idle: bool,
    /// An input that was idle counts again only once its watermark has reached the merged one; until then
    /// its older rows would hold back (or be late for) all others.
    aligned: bool,
    ended: bool,
    /// has delivered the barrier that the others have yet to deliver
    blocked: bool,
}

/// State of the merge.
#[derive(Clone, Debug)]
pub(super) struct Merge {
    inputs: Vec<Input>,
    watermark: Watermark,
    idle: bool,
    barrier: Option<Barrier>,
}

impl Merge {
    /// A merge of `inputs` inputs, all active, nothing known.
    pub(super) fn new(inputs: usize) -> Self {
        let input = Input { watermark: Watermark::MIN, idle: false, aligned: true, ended: false, blocked: false };
        Self { inputs: vec![input; inputs], watermark: Watermark::MIN, idle: false, barrier: None }
    }

    /// Whether elements of `input` may be taken now: not while others have yet to reach the same barrier.
    pub(super) fn open(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(|input| !input.blocked && !input.ended)
    }

    /// Takes in a signal of one input and adds what follows from it to `out`, in order.
    pub(super) fn on(&mut self, input: usize, signal: Signal, out: &mut Vec<Signal>) {
        let merged = self.watermark;
        let Some(state) = self.inputs.get_mut(input) else { return };
        match signal {
            Signal::Watermark(watermark) => {
                state.watermark = state.watermark.max(watermark);
                state.aligned |= state.watermark >= merged;
                self.advance(out);
            }
            Signal::Barrier(barrier) => {
                state.blocked = true;
                self.barrier = Some(barrier);
                self.release(out);
            }
            Signal::Idle => {
                state.idle = true;
                let last = state.watermark;
                self.advance(out);
                self.flush(last, out);
                self.idleness(out);
            }
            Signal::Active => {
                state.idle = false;
                state.aligned = state.watermark >= merged;
                self.idleness(out);
            }
            Signal::End => {
                state.ended = true;
                self.release(out);
                if self.inputs.iter().all(|input| input.ended) {
                    self.advance(out);
                    out.push(Signal::End);
                } else {
                    self.advance(out);
                    self.idleness(out);
                }
            }
        }
    }

    /// The merged watermark is the minimum over inputs that count; it never goes back.
    fn advance(&mut self, out: &mut Vec<Signal>) {
        let counting = self.inputs.iter().filter(|input| !input.idle && input.aligned && !input.ended);
        let minimum = counting.map(|input| input.watermark).min();
        // All have ended: the last word is the furthest that any of them said.
        let all_ended = self.inputs.iter().all(|input| input.ended);
        let furthest = self.inputs.iter().map(|input| input.watermark).max();
        let next = if all_ended { furthest } else { minimum };
        // An input that ends says "never again" for itself only: one that is idle, or not aligned yet, may still have
        // rows, and all of them would be late.
        let last = self.inputs.iter().all(|input| input.ended || input.watermark == Watermark::MAX);
        if let Some(next) = next.filter(|next| *next > self.watermark && (*next < Watermark::MAX || last)) {
            self.watermark = next;
            out.push(Signal::Watermark(next));
        }
    }

    /// With the last input that becomes idle nothing holds event time back any more: it goes to where the furthest input
    /// was, whichever of them became idle first. One that was still catching up, at `last`, has held nothing back.
    fn flush(&mut self, last: Watermark, out: &mut Vec<Signal>) {
        if last != self.watermark || self.inputs.iter().any(|input| !input.idle && !input.ended) {
            return;
        }
        let known = self.inputs.iter().map(|input| input.watermark).filter(|watermark| *watermark < Watermark::MAX);
        if let Some(furthest) = known.max().filter(|furthest| *furthest > self.watermark) {
            self.watermark = furthest;
            out.push(Signal::Watermark(furthest));
        }
    }

    fn idleness(&mut self, out: &mut Vec<Signal>) {
        let idle = self.inputs.iter().all(|input| input.idle || input.ended);
        if idle != self.idle {
            self.idle = idle;
            out.push(if idle { Signal::Idle } else { Signal::Active });
        }
    }

    fn release(&mut self, out: &mut Vec<Signal>) {
        if self.barrier.is_some() && self.inputs.iter().all(|input| input.blocked || input.ended) {
            self.inputs.iter_mut().for_each(|input| input.blocked = false);
            out.extend(self.barrier.take().map(Signal::Barrier));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::BarrierId;

    fn run(merge: &mut Merge, input: usize, signal: Signal) -> String {
        let mut out = Vec::new();
        merge.on(input, signal, &mut out);
        let words: Vec<String> = out
            .iter()
            .map(|signal| match signal {
                Signal::Watermark(watermark) => format!("w{watermark}"),
                Signal::Barrier(barrier) => format!("b{}", barrier.id.0),
                Signal::Idle => "idle".to_owned(),
                Signal::Active => "active".to_owned(),
                Signal::End => "end".to_owned(),
            })
            .collect();
        words.join(" ")
    }

    fn at(time: i64) -> Signal {
        Signal::Watermark(Watermark(time))
    }

    fn barrier(id: u64) -> Signal {
        Signal::Barrier(Barrier { id: BarrierId(id), change: Arc::new(()) })
    }

    #[test]
    fn the_merged_watermark_is_the_minimum_and_never_goes_back() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 0, at(10)), "");
        assert_eq!(run(&mut merge, 1, at(7)), "w7");
        assert_eq!(run(&mut merge, 1, at(5)), "");
        assert_eq!(run(&mut merge, 1, at(12)), "w10");
    }

    #[test]
    fn an_idle_input_does_not_hold_back_and_stays_out_until_it_catches_up() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 0, at(10)), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "w10");
        assert_eq!(run(&mut merge, 1, Signal::Active), "");
        assert_eq!(run(&mut merge, 1, at(4)), "");
        assert_eq!(run(&mut merge, 0, at(20)), "w20");
        assert_eq!(run(&mut merge, 1, at(21)), "");
        assert_eq!(run(&mut merge, 0, at(30)), "w21");
    }

    #[test]
    fn the_end_of_one_input_does_not_make_rows_of_an_idle_one_late() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 0, at(10)), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "w10");
        let max = || Signal::Watermark(Watermark::MAX);
        assert_eq!(run(&mut merge, 0, max()), "");
        assert_eq!(run(&mut merge, 0, Signal::End), "idle");
        assert_eq!(run(&mut merge, 1, Signal::Active), "active");
        assert_eq!(run(&mut merge, 1, at(20)), "w20");
        assert_eq!(run(&mut merge, 1, max()), format!("w{}", Watermark::MAX));
        assert_eq!(run(&mut merge, 1, Signal::End), "end");
    }

    #[test]
    fn the_end_of_one_input_does_not_make_rows_of_one_that_catches_up_late() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 1, Signal::Idle), "");
        assert_eq!(run(&mut merge, 0, at(10)), "w10");
        assert_eq!(run(&mut merge, 1, Signal::Active), "");
        assert_eq!(run(&mut merge, 1, at(4)), "");
        assert_eq!(run(&mut merge, 0, Signal::Watermark(Watermark::MAX)), "");
        assert_eq!(run(&mut merge, 0, Signal::End), "");
        assert_eq!(run(&mut merge, 1, at(20)), "w20");
    }

    #[test]
    fn where_all_are_idle_event_time_is_where_the_furthest_was_whichever_became_idle_first() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut merge = Merge::new(3);
            for (input, time) in [10, 5, 3].into_iter().enumerate() {
                run(&mut merge, input, at(time));
            }
            let said = order.map(|input| run(&mut merge, input, Signal::Idle)).join(" ");
            assert!(said.ends_with("w10 idle") || said == "w5 w10  idle", "{order:?}: {said}");
        }
    }

    #[test]
    fn an_input_that_was_catching_up_when_it_became_idle_moves_nothing() {
        let mut merge = Merge::new(3);
        assert_eq!(run(&mut merge, 0, at(10)) + &run(&mut merge, 2, at(7)), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "w7");
        assert_eq!(run(&mut merge, 1, Signal::Active) + &run(&mut merge, 1, at(4)), "");
        assert_eq!(run(&mut merge, 2, Signal::Idle), "w10");
        assert_eq!(run(&mut merge, 2, Signal::Active) + &run(&mut merge, 2, at(8)), "");
        assert_eq!(run(&mut merge, 0, at(12)) + &run(&mut merge, 0, Signal::Idle), "w12");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "");
        assert_eq!(run(&mut merge, 2, Signal::Idle), "idle");

        let mut merge = Merge::new(3);
        assert_eq!(run(&mut merge, 0, at(20)) + &run(&mut merge, 2, at(10)), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "w10");
        assert_eq!(run(&mut merge, 0, Signal::Idle), "");
        assert_eq!(run(&mut merge, 1, Signal::Active) + &run(&mut merge, 1, at(5)), "");
        assert_eq!(run(&mut merge, 2, Signal::Idle), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "idle");
    }

    #[test]
    fn all_idle_is_idle_and_one_active_is_active() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 0, Signal::Idle), "");
        assert_eq!(run(&mut merge, 1, Signal::Idle), "idle");
        assert_eq!(run(&mut merge, 0, Signal::Active), "active");
    }

    #[test]
    fn a_barrier_waits_for_all_inputs_and_blocks_those_that_delivered_it() {
        let mut merge = Merge::new(3);
        assert_eq!(run(&mut merge, 0, barrier(1)), "");
        assert!(!merge.open(0));
        assert!(merge.open(1));
        assert_eq!(run(&mut merge, 1, barrier(1)), "");
        assert_eq!(run(&mut merge, 2, Signal::End), "b1");
        assert!(merge.open(0) && merge.open(1) && !merge.open(2));
    }

    #[test]
    fn the_end_of_the_last_input_is_the_end() {
        let mut merge = Merge::new(2);
        assert_eq!(run(&mut merge, 0, Signal::Watermark(Watermark::MAX)), "");
        assert_eq!(run(&mut merge, 0, Signal::End), "");
        assert_eq!(run(&mut merge, 1, at(3)), "w3");
        assert_eq!(run(&mut merge, 1, Signal::Watermark(Watermark::MAX)), "wend");
        assert_eq!(run(&mut merge, 1, Signal::End), "end");
    }
}

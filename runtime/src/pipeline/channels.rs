//! The channels of a run, made before its tasks: each task takes its ends when it is built.

use tokio::sync::mpsc;

use super::plan::{Exchange, Plan};
use crate::limits;
use crate::record::Element;

/// Channels between chains: for each input of each chain, from each task to each task it can send to.
pub(super) struct Channels {
    /// by (chain, input, reading subtask): ends waiting to be taken by readers
    receivers: Vec<Vec<Vec<Vec<mpsc::Receiver<Element>>>>>,
    /// by (chain, input, writing subtask)
    senders: Vec<Vec<Vec<Vec<mpsc::Sender<Element>>>>>,
}

impl Channels {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut channels = Self { receivers: Vec::new(), senders: Vec::new() };
        for chain in &plan.chains {
            let (mut chain_receivers, mut chain_senders) = (Vec::new(), Vec::new());
            for (from, exchange) in &chain.inputs {
                let writers = plan
                    .chain_feeding(*from)
                    .and_then(|index| plan.chains.get(index))
                    .map_or(0, |chain| chain.parallelism);
                let mut receivers: Vec<Vec<_>> = (0..chain.parallelism).map(|_| Vec::new()).collect();
                let mut senders: Vec<Vec<_>> = (0..writers).map(|_| Vec::new()).collect();
                for (writer, senders) in senders.iter_mut().enumerate() {
                    for (reader, receivers) in receivers.iter_mut().enumerate() {
                        if *exchange == Exchange::Forward && writer != reader {
                            continue;
                        }
                        let (sender, receiver) = mpsc::channel(limits::CHANNEL_BATCHES);
                        senders.push(sender);
                        receivers.push(receiver);
                    }
                }
                chain_receivers.push(receivers);
                chain_senders.push(senders);
            }
            channels.receivers.push(chain_receivers);
            channels.senders.push(chain_senders);
        }
        channels
    }

    /// Ends to read from, each with the number of the input it belongs to.
    pub(super) fn take_receivers(
        &mut self,
        plan: &Plan,
        chain: usize,
        subtask: usize,
    ) -> Vec<(usize, mpsc::Receiver<Element>)> {
        let first = plan.chains.get(chain).and_then(|chain| plan.nodes.get(*chain.nodes.first()?));
        let ports = first.map(|node| node.ports.as_slice()).unwrap_or_default();
        let inputs = self.receivers.get_mut(chain).into_iter().flatten().zip(ports);
        let ends = inputs.filter_map(|(input, port)| Some((*port, std::mem::take(input.get_mut(subtask)?))));
        ends.flat_map(|(port, ends)| ends.into_iter().map(move |end| (port, end))).collect()
    }

    pub(super) fn take_senders(&mut self, chain: usize, input: usize, subtask: usize) -> Vec<mpsc::Sender<Element>> {
        let input = self.senders.get_mut(chain).and_then(|inputs| inputs.get_mut(input));
        input.and_then(|input| input.get_mut(subtask)).map(std::mem::take).unwrap_or_default()
    }
}

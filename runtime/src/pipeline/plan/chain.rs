//! Nodes that run in one task, and how rows get from task to task.

use super::{Chain, Exchange, Node, NodeIndex, NodeKind};

/// How rows reach input `port` of `node` from `from`.
fn exchange(nodes: &[Node], from: NodeIndex, port: usize, node: &Node) -> Exchange {
    let same = nodes.get(from).is_some_and(|from| from.parallelism == node.parallelism);
    match node.kind.keys(port) {
        Some(keys) if node.parallelism > 1 => Exchange::Key(keys),
        _ if same => Exchange::Forward,
        _ => Exchange::Rebalance,
    }
}

/// A node joins the chain of its input if nothing else reads that input and rows need not change tasks.
pub(super) fn chains(nodes: &[Node]) -> Vec<Chain> {
    let mut readers = vec![0_usize; nodes.len()];
    let reads = |node: &&Node| !matches!(node.kind, NodeKind::Side { .. });
    for &input in nodes.iter().filter(reads).flat_map(|node| &node.inputs) {
        if let Some(count) = readers.get_mut(input) {
            *count += 1;
        }
    }
    let mut chains: Vec<Chain> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        if matches!(node.kind, NodeKind::Side { .. }) {
            continue;
        }
        let inputs = node.inputs.iter().zip(&node.ports);
        let inputs: Vec<_> = inputs.map(|(&from, &port)| (from, exchange(nodes, from, port, node))).collect();
        if let [(from, Exchange::Forward)] = inputs.as_slice()
            && readers.get(*from) == Some(&1)
            && let Some(chain) = chains.iter_mut().find(|chain| chain.nodes.last() == Some(from))
        {
            chain.nodes.push(index);
            continue;
        }
        chains.push(Chain { nodes: vec![index], parallelism: node.parallelism, inputs });
    }
    chains
}

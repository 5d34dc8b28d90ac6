//! Process: the first row of each key. With `state_ttl` on the step, also the first after none has come for so long.

use millstream_sdk::{Context, Process, Row};

/// What is read of a row, and put out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Order<'a> {
    pub order: &'a str,
    pub amount: f64,
}

/// As [`Order`], on its own.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct FirstOrder {
    pub order: String,
    pub amount: f64,
}

/// That there is state says that the key was seen.
#[derive(Default)]
pub struct Dedup;

#[millstream_sdk::process]
impl Process for Dedup {
    type Input<'a> = Order<'a>;
    type State = ();
    type Output = FirstOrder;

    fn on_row(&self, order: Order<'_>, state: &mut Option<()>, context: &mut Context<Self>) {
        if state.is_none() {
            *state = Some(());
            context.emit(FirstOrder { order: order.order.to_owned(), amount: order.amount });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing::Processing;

    #[test]
    fn only_the_first_row_passes() {
        let mut dedup = Processing::<Dedup>::new(&[]).unwrap();
        for (amount, time) in [(1.0, 5), (2.0, 6)] {
            dedup.row((), Order { order: "a", amount }, time).unwrap();
        }
        assert_eq!(dedup.take().unwrap(), [(5, FirstOrder { order: "a".into(), amount: 1.0 })]);
    }
}

//! Process with two inputs: payments, and rules that say how much an account may spend. Payments beyond it leave by the
//! output `alerts`.
//!
//! Which of two inputs comes first is chance. So both wait in the state until event time has passed them, and a timer
//! takes them in the order of their times, a rule before the payments of its time.

use millstream_sdk::{Context, Packed, Process, Row, Side, Timer};
use serde::{Deserialize, Serialize};

/// The key.
#[derive(Clone, Debug, Row)]
pub struct Account {
    pub account: String,
}

/// What is read of a payment.
#[derive(Clone, Debug, Row)]
pub struct Payment {
    pub amount: f64,
}

/// What is read of a rule. A rule without a limit takes the account's limit away.
#[derive(Clone, Debug, Row)]
pub struct Rule {
    pub limit: Option<f64>,
}

/// What is remembered of an account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    limit: Option<f64>,
    spent: f64,
    waiting: Vec<(i64, Entry)>,
}

/// What waits for its time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Entry {
    Limit(Option<f64>),
    Payment(f64),
}

/// A payment that passed.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Passed {
    pub account: String,
    pub amount: f64,
    pub spent: f64,
}

/// A payment beyond the limit.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Alert {
    pub account: String,
    pub amount: f64,
    pub limit: f64,
}

/// Payments beyond the limit.
pub const ALERTS: Side<Alert> = Side::new("alerts");

#[derive(Default)]
pub struct FraudRules;

#[millstream_sdk::process(sides(ALERTS))]
impl Process for FraudRules {
    type Key = Account;
    type Input<'a> = Payment;
    type Second<'a> = Rule;
    type State = Packed<Book>;
    type Output = Passed;

    fn on_row(
        &self,
        payment: Payment,
        book: &mut Option<Packed<Book>>,
        context: &mut Context<Self>,
    ) -> Result<(), String> {
        if payment.amount < 0.0 {
            return Err(format!("a payment of {}", payment.amount));
        }
        wait(book, Entry::Payment(payment.amount), context);
        Ok(())
    }

    fn on_second(&self, rule: Rule, book: &mut Option<Packed<Book>>, context: &mut Context<Self>) {
        wait(book, Entry::Limit(rule.limit), context);
    }

    fn on_timer(&self, timer: Timer, book: &mut Option<Packed<Book>>, context: &mut Context<Self>) {
        let Some(Packed(Book { limit, spent, waiting })) = book else { return };
        waiting.sort_by_key(|(time, entry)| (*time, matches!(entry, Entry::Payment(_))));
        let due = waiting.partition_point(|(time, _)| *time <= timer.time);
        for (_, entry) in waiting.drain(..due) {
            let account = context.key().account.clone();
            match (entry, *limit) {
                (Entry::Limit(new), _) => *limit = new,
                (Entry::Payment(amount), Some(limit)) if *spent + amount > limit => {
                    context.emit_to(&ALERTS, Alert { account, amount, limit });
                }
                (Entry::Payment(amount), _) => {
                    *spent += amount;
                    context.emit(Passed { account, amount, spent: *spent });
                }
            }
        }
    }
}

fn wait(book: &mut Option<Packed<Book>>, entry: Entry, context: &mut Context<FraudRules>) {
    let Packed(book) = book.get_or_insert_default();
    book.waiting.push((context.time(), entry));
    context.set_timer(context.time());
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::Failure;
    use millstream_sdk::testing::Processing;

    #[test]
    fn payments_beyond_the_limit_leave_by_the_side() {
        let ada = || Account { account: "ada".into() };
        let mut rules = Processing::<FraudRules>::new(&[]).unwrap();
        for (amount, time) in [(4.0, 3), (6.0, 1), (5.0, 2)] {
            rules.row(ada(), Payment { amount }, time).unwrap();
        }
        rules.second(ada(), Rule { limit: Some(10.0) }, 1).unwrap();
        rules.watermark(3).unwrap();
        let spent: Vec<f64> = rules.take().unwrap().iter().map(|(_, passed)| passed.spent).collect();
        assert_eq!(spent, [6.0, 10.0]);
        let alert = Alert { account: "ada".into(), amount: 5.0, limit: 10.0 };
        assert_eq!(rules.take_side(&ALERTS).unwrap(), [(2, alert)]);
    }

    #[test]
    fn a_negative_payment_fails_alone() {
        let mut rules = Processing::<FraudRules>::new(&[]).unwrap();
        let failure = rules.row(Account { account: "ada".into() }, Payment { amount: -1.0 }, 0).unwrap_err();
        assert!(matches!(failure, Failure::Rows(rows) if rows[0].reason == "a payment of -1"));
        assert_eq!(rules.held(), (0, 0));
    }
}

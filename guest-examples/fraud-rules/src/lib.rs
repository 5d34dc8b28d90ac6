//! Process with two inputs: payments, and rules that say how much an account may spend. Payments beyond it leave by the
//! output `alerts`.

use millstream_sdk::{Context, Process, Row, Side};

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
#[derive(Clone, Debug, Row)]
pub struct Spending {
    pub limit: Option<f64>,
    pub spent: f64,
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
    type State = Spending;
    type Output = Passed;

    fn on_row(
        &self,
        payment: Payment,
        state: &mut Option<Spending>,
        context: &mut Context<Self>,
    ) -> Result<(), String> {
        let amount = payment.amount;
        if amount < 0.0 {
            return Err(format!("a payment of {amount}"));
        }
        let spending = state.get_or_insert(Spending { limit: None, spent: 0.0 });
        let account = context.key().account.clone();
        match spending.limit {
            Some(limit) if spending.spent + amount > limit => {
                context.emit_to(&ALERTS, Alert { account, amount, limit });
            }
            _ => {
                spending.spent += amount;
                context.emit(Passed { account, amount, spent: spending.spent });
            }
        }
        Ok(())
    }

    fn on_second(&self, rule: Rule, state: &mut Option<Spending>, _context: &mut Context<Self>) {
        state.get_or_insert(Spending { limit: None, spent: 0.0 }).limit = rule.limit;
    }
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
        rules.second(ada(), Rule { limit: Some(10.0) }, 0).unwrap();
        for (amount, time) in [(6.0, 1), (5.0, 2), (4.0, 3)] {
            rules.row(ada(), Payment { amount }, time).unwrap();
        }
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

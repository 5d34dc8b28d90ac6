//! Flat map: Debezium change records of an orders table, as lines of JSON, to rows that come and rows that go.
//!
//! A creation adds a row, a deletion takes one away, an update does both. A line that is no such record is the failure of
//! its row.

use millstream_sdk::Row;
use serde::Deserialize;

/// A line.
#[derive(Clone, Debug, Row)]
pub struct Line<'a> {
    /// a change record
    pub value: &'a str,
}

/// An order that comes or goes.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Change {
    /// 1 if it comes, -1 if it goes
    pub sign: i64,
    /// `p_` and the product's name
    pub id: String,
    /// who ordered
    pub customer: String,
    /// how many
    pub quantity: i64,
}

#[derive(Deserialize)]
struct Record {
    before: Option<Order>,
    after: Option<Order>,
}

#[derive(Deserialize)]
struct Order {
    product_name: String,
    customer_name: String,
    quantity: i64,
}

/// The changes of a record.
#[millstream_sdk::flat_map]
pub fn change_lines(line: Line<'_>) -> Result<Vec<Change>, String> {
    let record: Record = serde_json::from_str(line.value).map_err(|error| error.to_string())?;
    let change = |sign, order: Option<Order>| {
        order.map(|order| {
            let id = format!("p_{}", order.product_name);
            Change { sign, id, customer: order.customer_name, quantity: order.quantity }
        })
    };
    Ok(change(-1, record.before).into_iter().chain(change(1, record.after)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn an_update_takes_away_and_adds() {
        let order = |quantity| format!(r#"{{"product_name":"Mouse","customer_name":"ann","quantity":{quantity}}}"#);
        let create = format!(r#"{{"before":null,"after":{},"op":"c"}}"#, order(1));
        let update = format!(r#"{{"before":{},"after":{},"op":"u"}}"#, order(1), order(4));
        let lines = [create.as_str(), update.as_str()].map(|value| Line { value });
        let (origin, changes) = testing::flat_map::<change_lines, _, Change>(&[], lines).unwrap();
        assert_eq!(origin, [0, 1, 1]);
        let changes: Vec<_> = changes.to_rows().unwrap().into_iter().map(|row| (row.sign, row.quantity)).collect();
        assert_eq!(changes, [(1, 1), (-1, 1), (1, 4)]);
        assert!(testing::flat_map::<change_lines, _, Change>(&[], [Line { value: "{" }]).is_err());
    }
}

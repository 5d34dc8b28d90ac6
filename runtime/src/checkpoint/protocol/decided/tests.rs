//! What a start does, for every combination of facts.

use super::*;

const ID: &str = "millstream-orders";

fn marker(epoch: u64, named: Named) -> Option<(Marker, Named)> {
    Some((Marker { epoch, attempt: "a".into() }, named))
}

fn whole(attempt: &str) -> Named {
    Named::Whole { attempt: attempt.into() }
}

fn facts<'a>(
    marker: Option<(Marker, Named)>,
    in_transaction: Option<(u64, &'a str)>,
    shown: Option<(u64, &'a str)>,
) -> Facts<'a> {
    Facts { transactional_id: ID, marker, in_transaction, shown }
}

fn refusal(decision: Decision) -> String {
    match decision {
        Decision::Refuse { reason } => reason,
        other => panic!("went on: {other:?}"),
    }
}

#[test]
fn the_marker_decides_and_newer_checkpoints_do_not_count() {
    let decision = choose_decided(&facts(marker(7, whole("a")), Some((9, ID)), Some((7, "files"))));
    assert_eq!(decision, Decision::GoOn { epoch: 7 });
    // files follow the broker: they may be behind
    let decision = choose_decided(&facts(marker(7, whole("a")), Some((7, ID)), Some((6, "files"))));
    assert_eq!(decision, Decision::GoOn { epoch: 7 });
}

#[test]
fn the_checkpoint_that_the_marker_names_is_taken_or_none() {
    let of = |named| refusal(choose_decided(&facts(marker(7, named), Some((7, ID)), None)));
    assert!(of(Named::Missing).contains("not in the store"));
    assert!(of(Named::Damaged("torn".into())).contains("torn"));
    assert!(of(whole("b")).contains("attempt b"));
}

#[test]
fn a_marker_that_is_missing_is_told_from_one_that_was_lost() {
    assert_eq!(choose_decided(&facts(None, None, Some((4, "files")))), Decision::Undecided);
    assert!(refusal(choose_decided(&facts(None, Some((4, ID)), None))).contains("no marker"));
    assert!(refusal(choose_decided(&facts(None, Some((4, "before")), None))).contains("`before`"));
}

#[test]
fn files_that_are_ahead_of_the_broker_are_refused() {
    let reason = refusal(choose_decided(&facts(marker(7, whole("a")), Some((7, ID)), Some((8, "files")))));
    assert!(reason.contains("`files`") && reason.contains("epoch 8"), "{reason}");
}

fn held(of_markers: bool, first: HeldBack) -> Held {
    Held { partition: "out/0".into(), of_markers, first }
}

#[test]
fn what_was_aborted_is_aborted_again_and_what_was_committed_is_not() {
    let never = |_| Stored::Never;
    let ours = |epoch| HeldBack::Ours { epoch };
    assert_eq!(cure(&[], Some(3), never), Cure::None);
    let again = Cure::AbortAgain(vec!["out/0".into()]);
    assert_eq!(cure(&[held(false, ours(4))], Some(3), |_| Stored::Perhaps), again);
    assert_eq!(cure(&[held(false, ours(0))], None, never), again);
    assert!(matches!(cure(&[held(false, ours(3))], Some(3), never), Cure::Refuse { .. }));
    // the marker itself is held back: only what the store knows can tell
    assert_eq!(cure(&[held(true, ours(4)), held(false, ours(4))], Some(3), never).clone(), {
        Cure::AbortAgain(vec!["out/0".into(), "out/0".into()])
    });
    for stored in [Stored::Perhaps, Stored::Committed] {
        assert!(matches!(cure(&[held(true, ours(4))], Some(3), |_| stored), Cure::Refuse { .. }));
        // whichever partition is looked at first
        let both = [held(false, ours(4)), held(true, ours(4))];
        assert!(matches!(cure(&both, Some(3), |_| stored), Cure::Refuse { .. }));
    }
}

#[test]
fn another_producer_is_waited_for_only_where_it_hides_something_of_ours() {
    let others = |ours_behind| HeldBack::Others { ours_behind };
    assert_eq!(cure(&[held(false, others(false))], Some(3), |_| Stored::Never), Cure::None);
    assert_eq!(cure(&[held(false, others(true))], Some(3), |_| Stored::Never), Cure::Wait);
    assert_eq!(cure(&[held(true, others(false))], Some(3), |_| Stored::Never), Cure::Wait);
    let ours = held(false, HeldBack::Ours { epoch: 4 });
    assert_eq!(cure(&[ours, held(false, others(true))], Some(3), |_| Stored::Never), Cure::Wait);
}

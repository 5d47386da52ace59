use super::super::messages::Run;
use super::*;

fn node(name: &str) -> Node {
    Node { name: NodeName::parse(name).unwrap(), run: Run(1), url: format!("https://{name}/") }
}

/// Goes through a search with these answers; the steps that they were given to, and the last.
fn search(may_offer: bool, heard: &[Heard]) -> Vec<Step> {
    let mut lookup = Lookup::new(may_offer, 0);
    let mut steps = vec![lookup.step().clone()];
    for heard in heard {
        lookup.hear(heard.clone());
        steps.push(lookup.step().clone());
    }
    steps
}

fn outcome(heard: &[Heard]) -> Step {
    search(true, heard).pop().unwrap()
}

const FIRST: Step = Step::AskRoom { is_first: true };
const NOBODY: Heard = Heard::No(Unanswered::Nobody);
const SILENCE: Heard = Heard::No(Unanswered::Silence);

fn claimed(standing: Standing) -> Heard {
    Heard::Claimed(node("b"), standing, 7)
}

#[test]
fn a_room_that_is_somewhere_is_found_by_asking_it() {
    assert_eq!(search(true, &[Heard::Home(node("b"), 7)]), [FIRST, Step::Done(Outcome::There(node("b"), 7))]);
}

#[test]
fn a_home_with_a_lower_term_than_one_that_was_heard_before_is_none_unless_the_claim_says_so() {
    let former = || Heard::Home(node("a"), 3);
    for (known, heard, expected) in [
        (3, vec![former()], Step::Done(Outcome::There(node("a"), 3))),
        (7, vec![former()], Step::ReadClaim),
        (7, vec![former(), claimed(Standing::Beats)], Step::Done(Outcome::There(node("b"), 7))),
        // A table that has begun anew has lower terms.
        (9, vec![former(), claimed(Standing::Beats)], Step::Done(Outcome::There(node("b"), 7))),
        (7, vec![former(), claimed(Standing::Silent)], Step::Look(node("b"))),
        (7, vec![former(), claimed(Standing::Dead)], Step::Claim(Some(7))),
        (7, vec![former(), Heard::Offline], try_again(OFFLINE)),
        (7, vec![former(), Heard::Unclaimed], Step::Done(Outcome::There(node("a"), 3))),
    ] {
        let mut lookup = Lookup::new(true, known);
        heard.iter().for_each(|heard| lookup.hear(heard.clone()));
        assert_eq!(*lookup.step(), expected, "{known} {heard:?}");
    }
}

#[test]
fn a_room_that_is_nowhere_is_placed_and_claimed() {
    let place = [NOBODY, Heard::Unclaimed];
    let here = [&place[..], &[Heard::Placed(None), Heard::Won(3)]].concat();
    assert_eq!(
        search(true, &here),
        [FIRST, Step::ReadClaim, Step::Place, Step::Claim(None), Step::Done(Outcome::Here(3, false))]
    );
    let offer = |heard: Heard| [&place[..], &[Heard::Placed(Some(node("b").name)), heard]].concat();
    assert_eq!(
        search(true, &offer(Heard::Home(node("b"), 7)))[3..],
        [Step::Offer(node("b").name), Step::Done(Outcome::There(node("b"), 7))]
    );
    for refusal in [Heard::Refused, NOBODY, SILENCE] {
        assert_eq!(outcome(&offer(refusal)), Step::Claim(None), "then it is begun here");
    }
    assert_eq!(search(false, &place)[2], Step::Claim(None), "who was chosen does not choose");
}

#[test]
fn a_room_whose_home_died_needs_two_witnesses() {
    let over = Step::Claim(Some(7));
    for (heard, expected) in [
        // Silent, or nobody has its name: the first. No answer over HTTP: the second.
        (vec![NOBODY, claimed(Standing::Silent), Heard::Answers(false)], over.clone()),
        (vec![SILENCE, claimed(Standing::Silent), Heard::Answers(false)], over.clone()),
        (vec![NOBODY, claimed(Standing::Beats), NOBODY, Heard::Answers(false)], over.clone()),
        (vec![NOBODY, claimed(Standing::Unknown), NOBODY, Heard::Answers(false)], over.clone()),
        // It has been started anew, or is this process itself.
        (vec![NOBODY, claimed(Standing::Replaced)], over.clone()),
        // Both were heard before.
        (vec![SILENCE, claimed(Standing::Dead)], over.clone()),
        (vec![NOBODY, claimed(Standing::Own)], over),
        // One witness is none.
        (vec![NOBODY, claimed(Standing::Silent), Heard::Answers(true)], try_again(NO_ANSWER)),
        (vec![NOBODY, claimed(Standing::Beats), SILENCE, Heard::Answers(true)], try_again(NO_ANSWER)),
        (vec![NOBODY, claimed(Standing::Beats), Heard::Somebody], Step::Wait(AGAIN)),
    ] {
        assert_eq!(outcome(&heard), expected, "{heard:?}");
    }
    let taken = [NOBODY, claimed(Standing::Replaced), Heard::Won(8)];
    assert_eq!(outcome(&taken), Step::Done(Outcome::Here(8, true)));
}

#[test]
fn a_home_that_answers_late_is_asked_again_a_few_times() {
    let mut lookup = Lookup::new(true, 0);
    let mut rounds = 0;
    while !matches!(lookup.step(), Step::Done(_)) {
        for heard in [SILENCE, claimed(Standing::Beats), Heard::Somebody, Heard::Waited] {
            if !matches!(lookup.step(), Step::Done(_)) {
                lookup.hear(heard);
            }
        }
        rounds += 1;
    }
    assert_eq!((rounds, lookup.step()), (ATTEMPTS, &try_again(NO_ANSWER)));
}

#[test]
fn who_loses_the_race_for_a_claim_asks_who_has_won() {
    let lost = [NOBODY, Heard::Unclaimed, Heard::Placed(None), Heard::NotWon(Unwritten::Taken)];
    assert_eq!(outcome(&lost), Step::Wait(AGAIN));
    let found = [&lost[..], &[Heard::Waited, Heard::Home(node("b"), 7)]].concat();
    assert_eq!(outcome(&found), Step::Done(Outcome::There(node("b"), 7)));
}

#[test]
fn without_the_engine_nothing_is_begun() {
    for heard in [
        vec![Heard::No(Unanswered::Offline)],
        vec![NOBODY, Heard::Offline],
        vec![NOBODY, claimed(Standing::Beats), Heard::No(Unanswered::Offline)],
        vec![NOBODY, Heard::Unclaimed, Heard::Placed(None), Heard::NotWon(Unwritten::Offline)],
    ] {
        assert_eq!(outcome(&heard), try_again(OFFLINE), "{heard:?}");
    }
}

#[test]
fn a_claim_that_cannot_be_read_is_somebodys() {
    assert_eq!(outcome(&[NOBODY, Heard::Unreadable]), try_again(UNREADABLE));
}

#[test]
fn an_answer_to_another_question_ends_the_search() {
    for heard in [Heard::Waited, Heard::Won(1), Heard::Answers(false), Heard::Placed(None)] {
        assert_eq!(outcome(std::slice::from_ref(&heard)), try_again(NO_ANSWER), "{heard:?}");
    }
}

//! `sfu.jwks` for many at the same time: one request of the room for a set of keys, and its answer for all who wait.

use super::*;
use crate::output::HttpReply;

const KEYS: &str = r#"{"keys":[{"kid":"v1"}]}"#;
const SCRIPT: &str = "
function on_client_connect(client)
  local keys, why = sfu.jwks('https://id.example/keys')
  return keys ~= nil, why
end";

/// So many people ask to join at once.
fn joining(world: &mut World, n: usize) -> Vec<(Rc<ClientFacts>, Ticket)> {
    let join = |n: usize| {
        let client = client(world.now, &format!("c{n}"));
        let ticket = world.submit(HookCall::ClientConnect { client: client.clone(), auth_token: String::new() });
        (client, ticket)
    };
    (0..n).map(join).collect()
}

/// What is asked for, and whose join is decided how.
type Said = (Vec<PolicyRequestId>, Vec<(Ticket, Verdict)>);

fn said(world: &mut World) -> Said {
    let (mut requests, mut outcomes) = (Vec::new(), Vec::new());
    for output in world.outputs() {
        match output {
            PolicyOutput::Request { id, .. } => requests.push(id),
            PolicyOutput::Outcome { ticket, outcome, .. } => outcomes.push((ticket, outcome.verdict)),
            other => panic!("unexpected {other:?}"),
        }
    }
    (requests, outcomes)
}

fn reply(status: u16, body: &str) -> PolicyReply {
    PolicyReply::Http(Ok(HttpReply { status, headers: Vec::new(), body: body.into() }))
}

#[test]
fn all_who_join_while_a_set_of_keys_is_fetched_wait_for_that_one_answer() {
    let refused = |words: &str| Verdict::Reject(words.to_owned());
    for (answer, expected) in [
        (reply(200, KEYS), Verdict::Allow),
        (reply(503, "?"), refused("the keys' server answers with status 503")),
        (reply(200, "?"), refused("the set of keys is not JSON: expected value at line 1 column 1")),
        (PolicyReply::Http(Err("no route".to_owned())), refused("no route")),
    ] {
        let mut world = World::new(SCRIPT);
        let joins = joining(&mut world, 50);
        let (requests, outcomes) = said(&mut world);
        assert_eq!((requests.len(), outcomes), (1, vec![]), "{answer:?}");
        world.resume(requests[0], answer);
        // Some of them go on in a later turn.
        world.pass(Duration::from_secs(1));
        let all = joins.iter().map(|(_, ticket)| (*ticket, expected.clone())).collect();
        assert_eq!(said(&mut world), (vec![], all));
        let again = joining(&mut world, 1);
        let (requests, outcomes) = said(&mut world);
        match expected {
            Verdict::Allow => assert_eq!((requests, outcomes), (vec![], vec![(again[0].1, Verdict::Allow)])),
            // A failure is not kept.
            _ => assert_eq!((requests.len(), outcomes), (1, vec![])),
        }
    }
}

#[test]
fn when_the_one_who_has_asked_for_the_keys_goes_the_next_one_asks() {
    let mut world = World::new(SCRIPT);
    let joins = joining(&mut world, 3);
    let (first, _) = said(&mut world);
    joins[0].0.presence.set(Presence::Gone);
    world.submit(HookCall::ClientDisconnect { client: joins[0].0.clone(), reason: "gone".into() });
    let (second, _) = said(&mut world);
    assert_eq!((first.len(), second.len()), (1, 1));
    world.resume(first[0], reply(200, KEYS));
    assert_eq!(said(&mut world), (vec![], vec![]), "nobody waits for that one any more");
    world.resume(second[0], reply(200, KEYS));
    let all = joins[1..].iter().map(|(_, ticket)| (*ticket, Verdict::Allow)).collect();
    assert_eq!(said(&mut world), (vec![], all));
}

#[test]
fn who_came_later_than_the_one_whose_request_is_not_answered_has_the_time_of_his_own() {
    let mut world = World::new(SCRIPT);
    let early = joining(&mut world, 1);
    world.pass(Duration::from_secs(3));
    let late = client(world.now, "late");
    let late = world.submit(HookCall::ClientConnect { client: late, auth_token: String::new() });
    assert_eq!(said(&mut world).0.len(), 1);
    world.pass(Duration::from_millis(4_100));
    let (requests, outcomes) = said(&mut world);
    assert_eq!(outcomes, [(early[0].1, Verdict::Reject("timed out".to_owned()))]);
    assert_eq!(requests.len(), 1, "now it asks itself");
    world.resume(requests[0], reply(200, KEYS));
    assert_eq!(said(&mut world), (vec![], vec![(late, Verdict::Allow)]));
}

#[test]
fn what_a_script_asks_for_itself_is_asked_for_each_time() {
    let mut world = World::new("function on_client_connect() return sfu.http('https://id.example/keys') ~= nil end");
    joining(&mut world, 3);
    assert_eq!(said(&mut world).0.len(), 3);
}

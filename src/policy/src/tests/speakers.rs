//! Lists of who speaks that wait for their turn.

use super::waits::SECOND;
use super::*;

#[test]
fn of_the_speakers_that_wait_to_be_told_of_only_the_newest_are() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_active_speakers(who) sfu.broadcast(#who > 0 and who[1]:get_id() or 'nobody') sfu.sleep(1000) end",
    );
    let clients = ["a", "b", "c", "d"].map(|id| world.join(id));
    let speak = |world: &mut World, who: &[&Rc<ClientFacts>]| {
        world.submit(HookCall::ActiveSpeakers { clients: who.iter().map(|client| (*client).clone()).collect() })
    };
    speak(&mut world, &[&clients[0]]);
    let older = [speak(&mut world, &[&clients[1]]), speak(&mut world, &[]), speak(&mut world, &[&clients[2]])];
    assert_eq!(world.outcomes(), older[..2].iter().map(|ticket| (*ticket, Verdict::Allow)).collect::<Vec<_>>());
    assert_eq!(world.engine.room_status(world.key).unwrap().queued, 1);
    let newest = speak(&mut world, &[&clients[3], &clients[0]]);
    assert_eq!(world.outcomes(), [(older[2], Verdict::Allow)]);
    world.pass(SECOND * 5);
    let told: Vec<_> = world
        .outputs()
        .into_iter()
        .map(|output| match output {
            PolicyOutput::Outcome { ticket, outcome, .. } => (ticket == newest, outcome.actions),
            other => panic!("{other:?}"),
        })
        .collect();
    let said = |id: &str| vec![Action::Broadcast { value: json!(id), except: None }];
    assert_eq!(told, [(false, said("a")), (true, said("d"))]);
}

#[test]
fn who_has_left_before_the_speakers_are_told_of_is_none_of_them_and_is_forgotten() {
    let mut world = World::new(
        "function on_client_connect() return true end
         function on_message() for i = 1, 100000 do local garbage = {} end end
         function on_active_speakers(who) sfu.broadcast(#who) sfu.sleep(1000) end",
    );
    let (stays, leaves) = (world.join("stays"), world.join("leaves"));
    world.submit(HookCall::ActiveSpeakers { clients: vec![] });
    world.submit(HookCall::ActiveSpeakers { clients: vec![leaves.clone(), stays] });
    world.leave(&leaves);
    world.pass(SECOND * 3);
    let told = format!("{:?}", world.outputs());
    assert!(told.contains("Number(0)") && told.contains("Number(1)") && !told.contains("Number(2)"), "{told}");
    for n in 0..20 {
        let other = world.join(&format!("other{n}"));
        world.message(&other, json!(1));
        world.leave(&other);
    }
    assert_eq!(Rc::strong_count(&leaves), 1, "nothing else keeps it");
}

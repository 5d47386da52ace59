//! A node with clients of a room of another node, to which the link is dead; queues in the shards' places.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::cluster::Place;
use crate::cluster::memory::linked_nodes;
use crate::shard_handle::ShardHandle;
use crate::signal::directory::Membership;
use crate::signal::drain::tests::{app_of, demo, eventually, somebody_in, somebody_in_room};
use crate::signal::homes::{self, Elsewhere, Stay};
use moonring_core::command::{Command, Event, LeaveCause};
use moonring_core::report::LinkReport;
use moonring_wire::id::{ClientId, PlaceId, RoomId};
use serde_json::Value;

/// The other node's shard, as each of them knows it.
const OTHER: PlaceId = PlaceId(1);

fn node(cluster: &Cluster, down: &watch::Receiver<bool>) -> (App, Receiver<Command>) {
    let (sender, commands) = sync_channel(64);
    let app = app_of(cluster, vec![ShardHandle::new(move |command| sender.try_send(command))], down.clone());
    tokio::spawn(cluster.clone().run(Arc::new(app.clone())));
    (app, commands)
}

/// What a shard says of the link to the other node's.
fn link(is_silent: bool) -> LinkReport {
    let (sent, received, lost, layers_down) = (0, 0, 0, 0);
    LinkReport { place: OTHER, sent, received, lost, layers_down, is_silent, rooms: vec![], rtt: Duration::ZERO }
}

/// Somebody is in a room at its home, and the node has a wing of it.
async fn spread_over(app: &App, room: &RoomId, (home, cluster): (&App, &Cluster)) -> (Membership, Option<Stay>) {
    let Place::Here(_hold) = cluster.place(room).await else { panic!("it begins there") };
    let there = somebody_in_room(home, room);
    let stay = homes::here(app, room, Ipv4Addr::LOCALHOST.into()).await;
    assert!(matches!(stay, Ok(Some(Stay::Wing(_)))), "{stay:?}");
    (there, stay.unwrap())
}

/// A node hears nothing of the other one's shard until this is aborted.
fn hears_nothing_of_the_other(deaf: &Cluster) -> JoinHandle<()> {
    let deaf = deaf.clone();
    tokio::spawn(async move {
        loop {
            deaf.links_told(0, &[link(true)]);
            sleep(Duration::from_millis(200)).await;
        }
    })
}

/// Who is asked to go to the other node, and who is made to leave, one of each.
async fn sent(commands: &Receiver<Command>) -> (ClientId, ClientId) {
    let (mut asked, mut left) = (None, None);
    eventually(|| {
        for command in commands.try_iter() {
            match command {
                Command::Move { order, .. } if order.to == OTHER => asked = Some(order.client),
                Command::Leave { client, .. } => left = Some(client),
                _ => {}
            }
        }
        asked.is_some() && left.is_some()
    })
    .await;
    (asked.unwrap(), left.unwrap())
}

/// Where a client is told to join anew.
async fn moved_to(member: &mut Membership) -> String {
    loop {
        if let Some(Event::Left { cause: LeaveCause::Moved(url), .. }) = member.events.recv().await {
            return url;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_room_whose_home_cannot_be_heard_or_does_not_hear_is_asked_or_made_to_go_there_and_nobody_comes() {
    for hears_nothing in ["the wing", "the home"] {
        let (_bus, clusters) = linked_nodes(&["wing", "home"]);
        let [cluster, other] = <[Cluster; 2]>::try_from(clusters).unwrap();
        let (_down, is_down) = watch::channel(false);
        let ((app, commands), (home, _kept)) = (node(&cluster, &is_down), node(&other, &is_down));
        eventually(|| cluster.name_at(OTHER).is_some() && other.name_at(OTHER).is_some()).await;
        let _theirs = spread_over(&app, &demo(), (&home, &other)).await;
        let member = somebody_in(&app);
        assert!(!member.new_ticket().is_empty());
        let mut fixed = somebody_in(&app);
        tokio::spawn(send_home(app.clone(), cluster.clone(), PATIENCE));
        tokio::spawn(send_fixed_home(app.clone(), cluster.clone(), Duration::from_millis(100)));
        let telling = hears_nothing_of_the_other(if hears_nothing == "the wing" { &cluster } else { &other });
        let expected = (member.client.clone(), fixed.client.clone());
        assert_eq!(sent(&commands).await, expected, "{hears_nothing}");
        assert_eq!(moved_to(&mut fixed).await, "ws://home/ws", "{hears_nothing}");
        telling.abort();
        let newcomer = homes::here(&app, &demo(), Ipv4Addr::LOCALHOST.into()).await;
        assert!(matches!(&newcomer, Err(Elsewhere::Moved(url)) if url == "http://home/"), "{newcomer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_go_home_over_a_dead_link_and_does_not_is_made_to_and_who_goes_is_left_alone() {
    let (_bus, clusters) = linked_nodes(&["wing", "home"]);
    let [cluster, other] = <[Cluster; 2]>::try_from(clusters).unwrap();
    let (_down, is_down) = watch::channel(false);
    let ((app, commands), (home, _kept)) = (node(&cluster, &is_down), node(&other, &is_down));
    eventually(|| cluster.name_at(OTHER).is_some() && other.name_at(OTHER).is_some()).await;
    let _theirs = spread_over(&app, &demo(), (&home, &other)).await;
    let [mut stays, mut goes, mut cannot] = [(); 3].map(|()| somebody_in(&app));
    for member in [&stays, &goes, &cannot] {
        assert!(!member.new_ticket().is_empty());
    }
    tokio::spawn(send_home(app.clone(), cluster.clone(), Duration::from_millis(400)));
    let telling = hears_nothing_of_the_other(&cluster);
    // The shard tells two of them to restart ICE, of whom one does so and is at the other node at once; the third one has no media.
    let mut left = None;
    eventually(|| {
        for command in commands.try_iter() {
            match command {
                Command::Move { id, order } => {
                    let told = order.client != cannot.client;
                    app.calls.answer(id, if told { Ok(Value::Null) } else { Err("it is not up".to_owned()) });
                    if order.client == goes.client {
                        app.directory.give_stay(&goes.client, "ws://home/ws").unwrap();
                    }
                }
                Command::Leave { client, reason } => left = Some((client, reason)),
                _ => {}
            }
        }
        left.is_some()
    })
    .await;
    let reason = "the link to the room's home, or to its other nodes, is dead".to_owned();
    assert_eq!(left, Some((stays.client.clone(), reason)));
    assert_eq!(moved_to(&mut stays).await, "ws://home/ws");
    sleep(Duration::from_millis(600)).await;
    telling.abort();
    let last = |member: &mut Membership| match std::iter::from_fn(|| member.events.try_recv().ok()).last() {
        Some(Event::Left { cause, .. }) => Some(cause),
        _ => None,
    };
    assert_eq!(last(&mut goes), Some(LeaveCause::GoesOn("ws://home/ws".to_owned())));
    assert_eq!(last(&mut cannot), None, "it has nothing that stands still");
    assert!(commands.try_iter().all(|command| !matches!(command, Command::Leave { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_whose_home_is_busy_keep_nobody_from_going_to_another_one() {
    let (_bus, clusters) = linked_nodes(&["wing", "busy", "free"]);
    let [cluster, busy, free] = <[Cluster; 3]>::try_from(clusters).unwrap();
    let (_down, is_down) = watch::channel(false);
    let ((app, commands), (busy_app, _kept), (free_app, _kept_too)) =
        (node(&cluster, &is_down), node(&busy, &is_down), node(&free, &is_down));
    let places = [1, 2].map(PlaceId);
    let all_see = |cluster: &Cluster| places.iter().all(|place| cluster.name_at(*place).is_some());
    eventually(|| [&cluster, &busy, &free].into_iter().all(all_see)).await;
    let other = RoomId::parse("other").unwrap();
    let _theirs = spread_over(&app, &demo(), (&busy_app, &busy)).await;
    let _ours = spread_over(&app, &other, (&free_app, &free)).await;
    let mut waiting: Vec<_> = (0..400).map(|_| somebody_in(&app)).collect();
    waiting[..300].iter().for_each(|member| assert!(!member.new_ticket().is_empty()));
    let [goes, is_sent] = [(); 2].map(|()| somebody_in_room(&app, &other));
    assert!(!goes.new_ticket().is_empty());
    // As many as make it busy have been sent there.
    let of = |name: &str| {
        places.into_iter().find(|place| cluster.name_at(*place).is_some_and(|node| node.to_string() == name))
    };
    let fills = of("busy").unwrap();
    while cluster.home_with_time(fills).is_some() {}
    tokio::spawn(send_home(app.clone(), cluster.clone(), PATIENCE));
    tokio::spawn(send_fixed_home(app.clone(), cluster.clone(), Duration::from_millis(100)));
    let deaf = cluster.clone();
    let telling = tokio::spawn(async move {
        loop {
            deaf.links_told(0, &places.map(|place| LinkReport { place, ..link(true) }));
            sleep(Duration::from_millis(200)).await;
        }
    });
    let (mut asked, mut left) = (None, None);
    eventually(|| {
        for command in commands.try_iter() {
            match command {
                Command::Move { order, .. } => asked = Some(order.client),
                Command::Leave { client, .. } => left = Some(client),
                _ => {}
            }
        }
        asked.is_some() && left.is_some()
    })
    .await;
    telling.abort();
    assert_eq!((asked, left), (Some(goes.client.clone()), Some(is_sent.client.clone())));
    assert!(
        waiting
            .iter_mut()
            .all(|member| member.events.try_recv().is_ok_and(|event| matches!(event, Event::Joined { .. })))
    );
}

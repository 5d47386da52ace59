//! For which reason clients leave, as their shards hear it.

use super::*;

#[tokio::test]
async fn who_is_put_out_for_what_it_sends_leaves_for_that_reason() {
    let mut world = start(&Config { messages_per_s: 1, ..config() });
    for (message, reason) in [
        (Message::binary(vec![0; 9]), "too many messages"),
        (Message::Ping(vec![0; 9].into()), "too many control frames"),
    ] {
        let mut socket = world.socket().await;
        socket.join("yes").await;
        // What it still sends is not read.
        for _ in 0..1_000 {
            let _ = socket.0.send(message.clone()).await;
        }
        let left = async {
            loop {
                if let Some(reason) = world.told().await.strip_prefix("leave ") {
                    return reason.to_owned();
                }
            }
        };
        assert_eq!(left.await, reason);
    }
}

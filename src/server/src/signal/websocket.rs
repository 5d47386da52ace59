//! One task per WebSocket: moves messages between the socket and the client's shard.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::app::App;
use super::directory::Membership;
use super::session::{Join, Refused, SHUTDOWN, Session, Step, Told, refused};
use moonring_core::command::{Command, Event, JoinRequest, OfferRequest};
use moonring_wire::id::RoomId;
use moonring_wire::message::{ErrorCode, MAX_MESSAGE_BYTES, ServerMessage};

/// Longest message that is read at all: what is too long by less is answered, what is longer closes the socket.
const READ_BYTES: usize = 4 * MAX_MESSAGE_BYTES;
/// Each client's buffers for reading and writing; they grow for longer messages. 128 KiB each if it were not said.
const BUFFER_BYTES: usize = 4 * 1024;
/// Time for the client's side to take one message before it counts as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings in a row without any sign of life after which a client is gone.
const MISSED_PINGS: u32 = 3;

/// `GET /ws`.
pub(super) async fn upgrade(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if app.counters.websockets.load(Ordering::Relaxed) >= app.settings.clients_max {
        return (StatusCode::SERVICE_UNAVAILABLE, "the server has no place left for another client\n").into_response();
    }
    let ip = app.client_ip(peer, &headers);
    let upgrade = upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    upgrade.max_message_size(READ_BYTES).max_frame_size(READ_BYTES).on_upgrade(move |socket| async move {
        app.counters.websockets.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::new(socket, app, ip);
        connection.run().await;
        connection.app.counters.websockets.fetch_sub(1, Ordering::Relaxed);
    })
}

struct Connection {
    socket: WebSocket,
    app: App,
    ip: IpAddr,
    session: Session,
    /// The client's place, from the join on.
    member: Option<(RoomId, Membership)>,
}

/// The connection has ended.
struct Closed;

/// What woke the task.
enum Input {
    Frame(Option<Result<Message, axum::Error>>),
    Event(Option<Event>),
    Tick,
    JoinTimeout,
    Shutdown,
}

impl Connection {
    fn new(socket: WebSocket, app: App, ip: IpAddr) -> Self {
        let session = Session::new(Instant::now(), app.settings.messages_per_s);
        Self { socket, app, ip, session, member: None }
    }

    async fn run(&mut self) {
        let settings = self.app.settings;
        let mut ticks = tokio::time::interval(settings.ping_interval);
        ticks.reset();
        let join_deadline = tokio::time::sleep(settings.join_timeout);
        tokio::pin!(join_deadline);
        let app = self.app.clone();
        let shut_down = app.shut_down();
        tokio::pin!(shut_down);
        let mut unanswered = 0;
        loop {
            let input = tokio::select! {
                frame = self.socket.recv() => Input::Frame(frame),
                event = next_event(&mut self.member) => Input::Event(event),
                _ = ticks.tick() => Input::Tick,
                () = &mut join_deadline, if self.session.is_new() => Input::JoinTimeout,
                () = &mut shut_down => Input::Shutdown,
            };
            let went_on = match input {
                Input::Frame(Some(Ok(frame))) => {
                    unanswered = 0;
                    self.frame(frame).await
                }
                Input::Frame(_) => Err(Closed),
                Input::Event(Some(event)) => self.event(event).await,
                Input::Event(None) => self.end("You do not take your messages fast enough".into()).await,
                Input::Tick if unanswered >= MISSED_PINGS => Err(Closed),
                Input::Tick => {
                    unanswered += 1;
                    self.write(Message::Ping(Default::default())).await
                }
                Input::JoinTimeout => self.end("No join message in time".into()).await,
                Input::Shutdown => self.end(SHUTDOWN.into()).await,
            };
            if went_on.is_err() {
                return;
            }
        }
    }

    async fn frame(&mut self, frame: Message) -> Result<(), Closed> {
        let step = match frame {
            Message::Text(text) => self.session.read(Instant::now(), text.as_str()),
            Message::Binary(_) => Err(refused(ErrorCode::BadMessage, "messages are text, not binary".into())),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(Closed),
        };
        match step {
            Ok(Step::Join(join)) => self.join(join).await,
            Ok(Step::Command(command)) => self.command(command).await,
            Ok(Step::Leave) => {
                self.set_goodbye("left");
                self.close(close_code::NORMAL, "").await
            }
            Err(refused) => self.refuse(refused).await,
        }
    }

    async fn join(&mut self, join: Join) -> Result<(), Closed> {
        let member = match self.app.directory.enter(&join.room) {
            Ok(member) => member,
            Err(refusal) => return self.end(refusal.to_string()).await,
        };
        let command = Command::Join(JoinRequest {
            room: join.room.clone(),
            client: member.client.clone(),
            token: join.token,
            metadata: join.metadata,
            ip: self.ip,
        });
        tracing::debug!(room = %join.room, client = %member.client, ip = %self.ip, "asks to join");
        let sent = member.send(command);
        self.member = Some((join.room, member));
        if let Err(full) = sent {
            return self.end(full.to_string()).await;
        }
        self.session.joining();
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<(), Closed> {
        let request = match &command {
            Command::Offer(OfferRequest { request, .. }) => Some(*request),
            _ => None,
        };
        let sent = self.member.as_ref().map(|(_, member)| member.send(command));
        let Some(Err(full)) = sent else { return Ok(()) };
        if request.is_some() {
            self.session.offer_lost();
        }
        self.refuse(Refused { code: ErrorCode::Limit, message: full.to_string(), request }).await
    }

    async fn event(&mut self, event: Event) -> Result<(), Closed> {
        let Some((room, _)) = &self.member else { return Ok(()) };
        match self.session.tell(room, event) {
            Told::Message(message) => self.tell(&message).await,
            Told::Last(message) => self.last(&message).await,
            Told::Close => self.close(close_code::NORMAL, "").await,
        }
    }

    async fn refuse(&mut self, refused: Refused) -> Result<(), Closed> {
        self.app.counters.errors_sent.fetch_add(1, Ordering::Relaxed);
        let enough = self.session.count_error();
        self.tell(&refused.into_message()).await?;
        if enough {
            self.set_goodbye("too many errors");
            return self.close(close_code::POLICY, "too many errors").await;
        }
        Ok(())
    }

    /// Tells the client why its connection ends, and ends it.
    async fn end(&mut self, reason: String) -> Result<(), Closed> {
        let message = self.session.end(reason);
        self.last(&message).await
    }

    async fn last(&mut self, message: &ServerMessage) -> Result<(), Closed> {
        self.tell(message).await?;
        self.close(close_code::POLICY, "").await
    }

    async fn tell(&mut self, message: &ServerMessage) -> Result<(), Closed> {
        // The protocol's types have no maps with other keys than texts, and no other reason to fail.
        let text = serde_json::to_string(message).map_err(|_| Closed)?;
        self.write(Message::Text(text.into())).await
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Closed> {
        self.write(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        Err(Closed)
    }

    async fn write(&mut self, message: Message) -> Result<(), Closed> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }

    fn set_goodbye(&mut self, reason: &'static str) {
        if let Some((_, member)) = &mut self.member {
            member.goodbye = reason;
        }
    }
}

/// The next event of a client; never, before it joined.
async fn next_event(member: &mut Option<(RoomId, Membership)>) -> Option<Event> {
    match member {
        Some((_, member)) => member.events.recv().await,
        None => std::future::pending().await,
    }
}

//! One task per WebSocket: moves messages between the socket and the client's shard.

mod closed;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use self::closed::Closed;
use super::app::App;
use super::directory::{Membership, PendingOffer, Refusal, Resumed, SHUTS_DOWN};
use super::door::Thing;
use super::homes::{self, Elsewhere};
use super::intake::Intake;
use super::problem::Problem;
use super::session::{self, Join, Refused, Session, Step, Told, refused};
use super::visit;
use moonring_core::command::{Command, Event, JoinRequest};
use moonring_policy::client::{self as policy, Via};
use moonring_wire::message::{ErrorCode, MAX_MESSAGE_BYTES, ServerMessage};

/// Longest message that is read at all: what is too long by less is answered, what is longer closes the socket.
const READ_BYTES: usize = 4 * MAX_MESSAGE_BYTES;
/// What may have come of a message that is not whole, of who has not joined: the longest `join` is a quarter shorter, with every
/// character of token and metadata escaped. An address has many connections, and strangers show nothing for them.
const STRANGERS_BYTES: usize = 256 * 1024;
/// The same of who has joined: [`READ_BYTES`] with what is around them.
const MEMBERS_BYTES: usize = READ_BYTES + READ_BYTES / 8;
/// Each client's buffers for reading and writing; they grow for longer messages. 128 KiB each if it were not said.
const BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that may wait to be written: the longest message is a `joined` of a room of 500, whose metadata is 8 MB. Pongs,
/// which are written unasked, stay far below, as pings count as messages.
const WRITE_BYTES: usize = 16 * 1024 * 1024;
/// Time for the client's side to take one message before it counts as gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Times that a shard whose queue is full is asked for a snapshot, and the pause between.
const SNAPSHOT_ATTEMPTS: u32 = 50;
const SNAPSHOT_RETRY: Duration = Duration::from_millis(20);
/// Pause before it is looked again whether another process takes over.
const RESUME_RETRY: Duration = Duration::from_millis(10);
/// Pings in a row without any sign of life after which a client is gone.
const MISSED_PINGS: u32 = 3;

/// `GET /ws`.
pub(super) async fn upgrade(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(intake): Extension<Intake>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let ip = app.client_ip(peer, &headers);
    let visit = match visit::connection(&app, ip, Via::WebSocket, &headers) {
        Ok(visit) => visit,
        Err(problem) => return problem.into_response(),
    };
    let (door, now) = (app.directory.door(), Instant::now());
    if let Err(seconds) = door.may_connect(now, ip) {
        return Problem::too_many(Refusal::Later(seconds).to_string(), seconds).into_response();
    }
    // Behind a proxy the connection itself was not counted for its address.
    let permit = if app.settings.trust_proxy { door.admit(now, ip, Thing::Connection) } else { None };
    if app.settings.trust_proxy && permit.is_none() {
        let refusal = Refusal::Address("connections");
        return Problem::too_many(refusal.to_string(), refusal.retry_after().unwrap_or_default()).into_response();
    }
    let upgrade = upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let upgrade = upgrade.max_write_buffer_size(WRITE_BYTES);
    upgrade.max_message_size(READ_BYTES).max_frame_size(READ_BYTES).on_upgrade(move |socket| async move {
        app.counters.websockets.fetch_add(1, Ordering::Relaxed);
        intake.bound(STRANGERS_BYTES);
        let mut connection = Connection::new((socket, intake), app, visit);
        let closed = connection.run().await;
        connection.part(closed);
        connection.app.counters.websockets.fetch_sub(1, Ordering::Relaxed);
        drop(permit);
    })
}

struct Connection {
    socket: WebSocket,
    /// What has come of a message that is not whole.
    intake: Intake,
    app: App,
    /// The request that it has begun with.
    visit: policy::Connection,
    session: Session,
    /// The client's place, from the join on.
    member: Option<Membership>,
}

/// What woke the task.
enum Input {
    Frame(Option<Result<Message, axum::Error>>),
    Event(Option<Event>),
    Tick,
    JoinTimeout,
    Shutdown,
}

impl Connection {
    fn new((socket, intake): (WebSocket, Intake), app: App, visit: policy::Connection) -> Self {
        let session = Session::new(Instant::now(), app.settings.session);
        Self { socket, intake, app, visit, session, member: None }
    }

    async fn run(&mut self) -> Closed {
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
                Input::Frame(unread) => Err(Closed::unreadable(unread.and_then(Result::err))),
                Input::Event(Some(event)) => self.event(event).await,
                Input::Event(None) if self.member.as_ref().is_some_and(Membership::is_replaced) => {
                    self.close(close_code::NORMAL, "resumed by another connection").await
                }
                Input::Event(None) => self.end("You do not take your messages fast enough".into()).await,
                Input::Tick if unanswered >= MISSED_PINGS => Err(Closed::silent()),
                Input::Tick => {
                    unanswered += 1;
                    self.write(Message::Ping(Default::default())).await
                }
                Input::JoinTimeout => self.end("No join message in time".into()).await,
                Input::Shutdown => self.shutdown().await,
            };
            if let Err(closed) = went_on {
                return closed;
            }
        }
    }

    /// Keeps the place of a client whose connection was lost; else the place is given up.
    fn part(&mut self, closed: Closed) {
        match (self.member.take(), closed) {
            (Some(member), Closed::Lost(why)) if !self.app.is_shutting_down() => {
                member.tell_of_loss(&why);
                member.detach();
            }
            (member, _) => drop(member),
        }
    }

    async fn frame(&mut self, frame: Message) -> Result<(), Closed> {
        match &frame {
            Message::Ping(payload) | Message::Pong(payload) => self.intake.passed(payload.len()),
            _ => self.intake.taken(),
        }
        let step = match frame {
            Message::Text(text) => self.session.read(Instant::now(), text.as_str()),
            Message::Binary(bytes) if !self.session.take_control(Instant::now(), bytes.len()) => {
                return self.close(close_code::POLICY, "too many messages").await;
            }
            Message::Binary(_) => Err(refused(ErrorCode::BadMessage, "messages are text, not binary".into())),
            Message::Ping(payload) | Message::Pong(payload) => {
                return match self.session.take_control(Instant::now(), payload.len()) {
                    true => Ok(()),
                    false => self.close(close_code::POLICY, "too many control frames").await,
                };
            }
            Message::Close(frame) => return Err(Closed::by_client(frame.as_ref())),
        };
        match step {
            // Whoever comes now would be sent away at once.
            Ok(Step::Join(_) | Step::Resume(_)) if self.app.is_shutting_down() => self.shutdown().await,
            Ok(Step::Join(join)) => self.join(join).await,
            Ok(Step::Resume(ticket)) => self.resume(&ticket).await,
            Ok(Step::Command(command)) => self.command(command).await,
            Ok(Step::Offer(command, offer)) => self.offer(command, offer).await,
            Ok(Step::Wait) => Ok(()),
            Ok(Step::Leave) => {
                self.set_goodbye("left");
                self.close(close_code::NORMAL, "").await
            }
            Err(refused) => self.refuse(refused).await,
        }
    }

    async fn join(&mut self, join: Join) -> Result<(), Closed> {
        let hold = match homes::here(&self.app, &join.room, self.visit.ip).await {
            Ok(hold) => hold,
            Err(elsewhere) => return self.go_elsewhere(elsewhere).await,
        };
        let member = match self.app.directory.enter(&join.room, self.visit.ip) {
            Ok(member) => member,
            Err(refusal @ (Refusal::Replaced | Refusal::Joins)) => return self.refuse(try_again(refusal)).await,
            Err(refusal) => return self.end(refusal.to_string()).await,
        };
        if hold.as_ref().is_some_and(|hold| !hold.is_good()) {
            return self.go_elsewhere(Elsewhere::TryAgain(homes::CHANGES)).await;
        }
        let command = Command::Join(JoinRequest {
            room: join.room.clone(),
            client: member.client.clone(),
            token: join.token,
            metadata: join.metadata,
            connection: Box::new(self.visit.clone()),
        });
        tracing::debug!(room = %join.room, client = %member.client, ip = %self.visit.ip, "asks to join");
        let sent = member.send(command);
        self.member = Some(member);
        if let Err(full) = sent {
            return self.end(full.to_string()).await;
        }
        self.session.joining(join.room);
        Ok(())
    }

    async fn resume(&mut self, ticket: &str) -> Result<(), Closed> {
        let ticket = match homes::ticket_of(&self.app, ticket).await {
            Ok(ticket) => ticket,
            Err(Some(elsewhere)) => return self.go_elsewhere(elsewhere).await,
            // Of a node that does not live, or is of another cluster.
            Err(None) => "",
        };
        let mut resumed = self.app.directory.resume(ticket);
        while matches!(resumed, Resumed::Later) {
            if self.app.is_replaced() {
                return self.shutdown().await;
            }
            tokio::time::sleep(RESUME_RETRY).await;
            resumed = self.app.directory.resume(ticket);
        }
        let stay = match resumed {
            Resumed::Stay(stay) => *stay,
            Resumed::Elsewhere(url) => return self.last(&ServerMessage::Moved { url }).await,
            Resumed::Kicked(reason) => return self.last(&ServerMessage::Kicked { reason }).await,
            Resumed::Unknown | Resumed::Later => {
                let message = "the ticket is unknown, used or expired: join instead".into();
                return self.refuse(refused(ErrorCode::Ticket, message)).await;
            }
        };
        tracing::debug!(room = %stay.room, client = %stay.member.client, ip = %self.visit.ip, "resumes");
        self.session.resuming(stay.room, stay.kept, stay.offer);
        let member = self.member.insert(stay.member);
        for _ in 0..SNAPSHOT_ATTEMPTS {
            if member.send(Command::Snapshot { client: member.client.clone() }).is_ok() {
                return Ok(());
            }
            // The ticket is spent, so an overloaded shard gets more than one chance.
            tokio::time::sleep(SNAPSHOT_RETRY).await;
        }
        self.set_goodbye("the server is overloaded");
        self.end("The server is overloaded".into()).await
    }

    /// The room is another node's, or nobody's for now.
    async fn go_elsewhere(&mut self, elsewhere: Elsewhere) -> Result<(), Closed> {
        match elsewhere {
            Elsewhere::Moved(url) => self.last(&ServerMessage::Moved { url: homes::websocket_url(&url) }).await,
            Elsewhere::TryAgain(why) => self.refuse(refused(ErrorCode::TryAgain, format!("{why}: try again"))).await,
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), Closed> {
        match self.member.as_ref().map(|member| member.send(command)) {
            Some(Err(full)) => self.tell_refusal(refused(ErrorCode::Limit, full.to_string())).await,
            Some(Ok(())) | None => Ok(()),
        }
    }

    async fn offer(&mut self, command: Command, offer: PendingOffer) -> Result<(), Closed> {
        let sent = self.member.as_ref().map(|member| member.send_offer(command, offer));
        let Some(Err(full)) = sent else { return Ok(()) };
        self.session.offer_lost();
        let request = Some(offer.request);
        self.tell_refusal(Refused { code: ErrorCode::Limit, message: full.to_string(), request }).await
    }

    async fn event(&mut self, event: Event) -> Result<(), Closed> {
        self.pass_on(event).await?;
        for page in self.session.take_pages() {
            self.tell(&page).await?;
        }
        for event in self.session.take_early() {
            self.pass_on(event).await?;
        }
        match self.session.released_offer() {
            Some((command, offer)) => self.offer(command, offer).await,
            None => Ok(()),
        }
    }

    async fn pass_on(&mut self, event: Event) -> Result<(), Closed> {
        let Some(member) = &self.member else { return Ok(()) };
        match self.session.tell(event, || homes::ticket(&self.app, member.new_ticket())) {
            Told::Message(message) => {
                if matches!(message, ServerMessage::Joined { .. }) {
                    self.intake.bound(MEMBERS_BYTES);
                }
                self.tell(&message).await
            }
            // What comes from a `String` is text.
            Told::Text(text) => match Utf8Bytes::try_from(text) {
                Ok(text) => self.write(Message::Text(text)).await,
                Err(_) => Ok(()),
            },
            Told::Later => Ok(()),
            Told::Last(message) => self.last(&message).await,
            Told::Close => self.close(close_code::NORMAL, "").await,
        }
    }

    /// Says no, without counting it as the client's error.
    async fn tell_refusal(&mut self, refused: Refused) -> Result<(), Closed> {
        self.app.counters.errors_sent.fetch_add(1, Ordering::Relaxed);
        self.tell(&refused.into_message()).await
    }

    async fn refuse(&mut self, refused: Refused) -> Result<(), Closed> {
        let end = self.session.count_error();
        self.tell_refusal(refused).await?;
        let Some(reason) = end else { return Ok(()) };
        self.close(close_code::POLICY, reason).await
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

    async fn shutdown(&mut self) -> Result<(), Closed> {
        self.set_goodbye(SHUTS_DOWN);
        let message = self.session.shutdown(self.app.is_replaced());
        self.tell(&message).await?;
        let is_restart = matches!(message, ServerMessage::Restarting { .. } | ServerMessage::Resume { .. });
        self.close(if is_restart { close_code::RESTART } else { close_code::AWAY }, "").await
    }

    async fn tell(&mut self, message: &ServerMessage) -> Result<(), Closed> {
        self.write(Message::Text(session::text(message).into())).await
    }

    async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Closed> {
        if !reason.is_empty() {
            self.set_goodbye(reason);
        }
        self.write(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        Err(Closed::Done)
    }

    async fn write(&mut self, message: Message) -> Result<(), Closed> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Closed::unwritable(Some(error))),
            Err(_) => Err(Closed::unwritable(None)),
        }
    }

    fn set_goodbye(&mut self, reason: &'static str) {
        if let Some(member) = &mut self.member {
            member.goodbye = reason.into();
        }
    }
}

fn try_again(refusal: Refusal) -> Refused {
    refused(ErrorCode::TryAgain, refusal.to_string())
}

/// The next event of a client; never, before it joined.
async fn next_event(member: &mut Option<Membership>) -> Option<Event> {
    match member {
        Some(member) => member.events.recv().await,
        None => std::future::pending().await,
    }
}

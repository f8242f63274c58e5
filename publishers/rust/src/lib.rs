//! Publish events to a NeuroGraph gateway over ZeroMQ.
//!
//! ```no_run
//! use neurograph_publisher::{Options, Publisher};
//! use std::time::Duration;
//!
//! let publisher = Publisher::open(Options::connect("tcp://127.0.0.1:5556"))?;
//! publisher.wait_for_subscriber(Duration::from_secs(5)); // events published before that reach nobody
//! publisher.publish("robots.r2", &serde_json::json!({"x": 1.5}))?;
//! # Ok::<(), neurograph_publisher::Error>(())
//! ```

mod channels;
mod curve;
mod topics;
pub mod wire;
mod worker;

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use channels::{Action, Connection, Log, Metrics, Signal, Status};
pub use curve::Curve;
use topics::Topics;
use wire::{
    base64, check_event_type, check_json, check_not_standard, check_topic, pack_envelope, timestamp, Heartbeat,
};

/// An invalid argument or event; the text says why. Nothing was sent, and no number was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<zmq::Error> for Error {
    fn from(error: zmq::Error) -> Self {
        Self(error.to_string())
    }
}

/// Options of a publisher: begin with [`Options::connect`] or [`Options::bind`].
#[derive(Clone, Debug)]
pub struct Options {
    pub endpoint: String,
    /// Endpoints of further gateways to connect to: each gets all events, with the same numbers.
    pub also_connect: Vec<String>,
    /// Bind the endpoint, for gateways to connect to, instead of connecting to it.
    pub bind: bool,
    /// Messages queued for a subscriber before further ones are dropped and counted; 0 = no limit.
    pub high_water_mark: i32,
    /// Larger payloads are refused, as the gateway would reject them.
    pub payload_bytes_max: usize,
    /// How long closing waits until queued messages are sent.
    pub linger: Duration,
    /// The interval of heartbeats; zero = none.
    pub heartbeat: Duration,
    /// The publisher's name, to be shown; at most 64 characters.
    pub name: String,
    /// How many of the newest messages of each topic are kept for replay.
    pub replay: usize,
    /// The endpoint for replay requests.
    pub replay_endpoint: String,
    /// The address by which gateways reach it, if that is not the endpoint bound.
    pub replay_address: Option<String>,
    pub curve: Option<Curve>,
}

impl Options {
    /// Connect to a gateway's endpoint.
    pub fn connect(endpoint: impl Into<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().take(40).collect();
        Self {
            endpoint: endpoint.into(),
            also_connect: Vec::new(),
            bind: false,
            high_water_mark: 100_000,
            payload_bytes_max: 1_048_576,
            linger: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            name: format!("{host}:{}", std::process::id()),
            replay: 0,
            replay_endpoint: "tcp://127.0.0.1:*".to_owned(),
            replay_address: None,
            curve: None,
        }
    }

    /// Bind an endpoint that gateways connect to.
    pub fn bind(endpoint: impl Into<String>) -> Self {
        Self { bind: true, ..Self::connect(endpoint) }
    }

    fn endpoints(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.endpoint).chain(&self.also_connect)
    }

    fn check(&self) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let wrong = if self.bind && !self.also_connect.is_empty() {
            "also_connect: further gateways go with connect, not with bind".to_owned()
        } else if let Some(twice) = self.endpoints().find(|one| !seen.insert(*one)) {
            format!("also_connect: {twice} is given twice; its gateway would get each event twice")
        } else if self.heartbeat > Duration::from_secs(3600) {
            format!("heartbeat: {:?} is more than an hour", self.heartbeat)
        } else if self.replay > 0 && self.heartbeat.is_zero() {
            "replay: heartbeats say where to ask, and there are none".to_owned()
        } else if self.name.chars().count() > 64 {
            format!("name: {:?} has more than 64 characters", self.name)
        } else {
            return Ok(());
        };
        Err(Error(wrong))
    }
}

const WELCOME_NS: u64 = 1_000_000;

/// Counts since the publisher was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub published: u64,
    /// A subscriber was at the high-water mark.
    pub dropped: u64,
    /// Requests for missed messages that were answered.
    pub replayed: u64,
    /// Handshakes that failed.
    pub refused: u64,
}

/// The state that publishing and the publisher's thread share; ZeroMQ's sockets are not thread-safe.
struct Shared {
    /// One for each endpoint; the thread takes them when this is closed.
    links: Vec<Link>,
    closed: bool,
    waker: zmq::Socket,
    greeted_ns: u64,
    topics: Topics,
    counts: Counts,
    about: About,
}

/// The XPUB of one endpoint, with its own queue: a gateway that does not read does not affect the others.
struct Link {
    socket: zmq::Socket,
    subscribed: HashSet<Vec<u8>>,
}

/// The content of heartbeats.
struct About {
    incarnation: u64,
    hex: String,
    name: String,
    heartbeat: Duration,
    replay: Option<String>,
    replay_key: Option<String>,
}

/// Publishes events on a bus, from any thread. Only `wait_for_subscriber` and `close` wait;
/// dropping a publisher closes it.
///
/// What publishes returns false if a subscriber is at the high-water mark: the message is dropped and counted, and its
/// number stays used, so that the gateway notices the loss.
pub struct Publisher {
    shared: Arc<Mutex<Shared>>,
    worker: Option<JoinHandle<()>>,
    endpoint: String,
    replay_address: Option<String>,
    incarnation: String,
    payload_bytes_max: usize,
}

impl Publisher {
    pub fn open(options: Options) -> Result<Self, Error> {
        options.check()?;
        let context = zmq::Context::new();
        let linger = options.linger.as_millis().min(i32::MAX as u128) as i32;
        let guard = match &options.curve {
            Some(_) => Some(worker::open_guard(&context)?),
            None => None,
        };
        let at = |error: Error| Error(format!("{}: {error}", options.endpoint));
        let router = match options.replay {
            0 => None,
            _ => Some(worker::open_router(&context, &options, linger).map_err(at)?),
        };
        let (mut links, mut lines) = (Vec::new(), Vec::new());
        for (n, address) in options.endpoints().enumerate() {
            let at = |error: Error| Error(format!("{address}: {error}"));
            let (socket, line) = worker::open_socket(&context, &options, address, linger, n).map_err(at)?;
            links.push(Link { socket, subscribed: HashSet::new() });
            lines.push(line);
        }
        let (woken, waker) = (context.socket(zmq::PAIR)?, context.socket(zmq::PAIR)?);
        woken.bind("inproc://wake")?;
        waker.connect("inproc://wake")?;
        let address = |socket: &zmq::Socket| socket.get_last_endpoint().ok()?.ok();
        let replay = router.as_ref().and_then(|router| options.replay_address.clone().or_else(|| address(router)));
        let incarnation = RandomState::new().build_hasher().finish(); // the standard library's source of random numbers
        let hex = format!("{incarnation:016x}");
        let endpoint = address(&links[0].socket).unwrap_or_else(|| options.endpoint.clone());
        let about = About {
            incarnation,
            hex: hex.clone(),
            name: options.name.clone(),
            heartbeat: options.heartbeat,
            replay: replay.clone(),
            replay_key: options.curve.as_ref().filter(|_| replay.is_some()).map(|curve| curve.public_key.clone()),
        };
        let shared = Arc::new(Mutex::new(Shared {
            links,
            closed: false,
            waker,
            greeted_ns: 0,
            topics: Topics::new(options.replay),
            counts: Counts::default(),
            about,
        }));
        let payload_bytes_max = options.payload_bytes_max;
        let worker = worker::Worker { shared: shared.clone(), lines, woken, router, guard, options };
        let worker = std::thread::Builder::new()
            .name("neurograph-publisher".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| Error(error.to_string()))?;
        Ok(Self { shared, worker: Some(worker), endpoint, replay_address: replay, incarnation: hex, payload_bytes_max })
    }

    /// 16 hexadecimal digits.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The (first) endpoint, with its actual port in place of `*`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address for replay requests.
    pub fn replay_address(&self) -> Option<&str> {
        self.replay_address.as_deref()
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Publish data as JSON. As serde_json has it, a number that is not finite becomes null.
    pub fn publish(&self, topic: &str, data: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        check_topic(topic)?;
        let payload = serde_json::to_vec(data).map_err(|error| Error(format!("{topic}: {error}")))?;
        self.send(topic, &payload)
    }

    /// Publish JSON text: it is checked, and sent unchanged.
    pub fn publish_json(&self, topic: &str, text: &str) -> Result<bool, Error> {
        check_topic(topic)?;
        check_json(topic, text)?;
        self.send(topic, text.as_bytes())
    }

    /// Publish an event of a type that happens now.
    pub fn publish_event(&self, topic: &str, event_type: &str, data: &(impl Serialize + ?Sized)) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct Event<'a, T: ?Sized> {
            event_type: &'a str,
            timestamp: String,
            data: &'a T,
        }
        check_event_type(event_type)?;
        self.publish(topic, &Event { event_type, timestamp: timestamp(now_ns()), data })
    }

    /// Publish bytes, such as an image, with their content type. On the bus they are base64: the gateway's limit counts
    /// 4 for 3 bytes.
    pub fn publish_bytes(&self, topic: &str, bytes: &[u8], content_type: Option<&str>) -> Result<bool, Error> {
        #[derive(Serialize)]
        struct Event<'a> {
            timestamp: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_type: Option<&'a str>,
            data_base64: String,
        }
        check_not_standard(topic)?;
        self.publish(topic, &Event { timestamp: timestamp(now_ns()), content_type, data_base64: base64(bytes) })
    }

    /// Publish figures of a system on `metrics`.
    pub fn metrics(&self, data: &Metrics) -> Result<bool, Error> {
        self.publish_event("metrics", "system_metrics", data)
    }

    /// Publish a signal that entered the core on `signals`.
    pub fn signal(&self, kind: &str, data: &Signal) -> Result<bool, Error> {
        let event_type = format!("signal.{kind}");
        self.publish_event("signals", &event_type, &With { name: "event_type", value: &event_type, more: None, data })
    }

    /// Publish something that the core did on `actions`.
    pub fn action(&self, kind: &str, data: &Action) -> Result<bool, Error> {
        let data = With { name: "action_type", value: kind, more: None, data };
        self.publish_event("actions", "action.executed", &data)
    }

    /// Publish a line of a log on `logs`.
    pub fn log(&self, level: &str, message: &str, data: &Log) -> Result<bool, Error> {
        let event_type = format!("log.{}", level.to_lowercase());
        let data = With { name: "level", value: level, more: Some(("message", message)), data };
        self.publish_event("logs", &event_type, &data)
    }

    /// Publish how a service is on `status`.
    pub fn status(&self, state: &str, data: &Status) -> Result<bool, Error> {
        let data = With { name: "status", value: state, more: None, data };
        self.publish_event("status", &format!("status.{state}"), &data)
    }

    /// Publish that a client came or went on `connections`.
    pub fn connection(&self, change: &str, client_id: &str, data: &Connection) -> Result<bool, Error> {
        let data = With { name: "client_id", value: client_id, more: None, data };
        self.publish_event("connections", &format!("client.{change}"), &data)
    }

    /// Wait until each endpoint that is connected to has a subscriber; events published before that reach nobody.
    pub fn wait_for_subscriber(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let mut shared = self.lock();
            shared.welcome_subscribers();
            if shared.links.iter().all(|link| !link.subscribed.is_empty()) && !shared.closed {
                return true;
            }
            drop(shared);
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Send a farewell and queued messages, for at most the linger time; a second call does nothing.
    pub fn close(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        let mut shared = self.lock();
        shared.welcome_subscribers();
        shared.beat_all(Duration::ZERO);
        shared.closed = true;
        let _ = shared.waker.send("closed", 0);
        drop(shared);
        let _ = worker.join();
    }

    fn send(&self, topic: &str, payload: &[u8]) -> Result<bool, Error> {
        if payload.len() > self.payload_bytes_max {
            return Err(Error(format!(
                "{topic}: {} bytes of JSON exceed {}: publish less at once, or raise payload_bytes_max here and \
                 ingest.payload_bytes_max at the gateway",
                payload.len(),
                self.payload_bytes_max
            )));
        }
        self.lock().send(topic, payload)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.close();
    }
}

/// Data with a member, or two, before its own.
struct With<'a, T> {
    name: &'static str,
    value: &'a str,
    more: Option<(&'static str, &'a str)>,
    data: &'a T,
}

impl<T: Serialize> Serialize for With<'_, T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a, T> {
            #[serde(flatten)]
            own: std::collections::BTreeMap<&'static str, &'a str>,
            #[serde(flatten)]
            data: &'a T,
        }
        let own = std::iter::once((self.name, self.value)).chain(self.more).collect();
        Flat { own, data: self.data }.serialize(to)
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Shared {
    fn send(&mut self, topic: &str, payload: &[u8]) -> Result<bool, Error> {
        let now_ns = now_ns();
        if now_ns.wrapping_sub(self.greeted_ns) >= WELCOME_NS {
            self.greeted_ns = now_ns; // to look is a system call, and libzmq does not look more often
            self.welcome_subscribers();
        }
        if self.closed {
            return Err(Error("this publisher is closed".to_owned()));
        }
        let Some(sequence) = self.topics.next(topic) else {
            return Err(Error(format!("{topic}: one topic too many; a publisher numbers 100,000 of them")));
        };
        let flags = u32::from(!self.about.heartbeat.is_zero());
        let envelope = pack_envelope(flags, self.about.incarnation, sequence, now_ns);
        self.topics.keep(topic, payload, envelope);
        let frames = [topic.as_bytes(), payload, &envelope];
        let is_sent = self.links.iter().fold(true, |all, link| send_frames(&link.socket, &frames) && all);
        *(if is_sent { &mut self.counts.published } else { &mut self.counts.dropped }) += 1;
        Ok(is_sent)
    }

    /// Read subscriptions, and send new subscribers a heartbeat before the next event.
    fn welcome_subscribers(&mut self) {
        if self.closed {
            return;
        }
        for n in 0..self.links.len() {
            if self.links[n].read_subscriptions() {
                self.beat(&self.links[n], self.about.heartbeat);
            }
        }
    }

    fn beat_all(&self, interval: Duration) {
        for link in &self.links {
            self.beat(link, interval);
        }
    }

    fn beat(&self, link: &Link, interval: Duration) {
        if self.closed || self.about.heartbeat.is_zero() {
            return;
        }
        let heartbeat = Heartbeat {
            incarnation: &self.about.hex,
            name: &self.about.name,
            interval: interval.as_secs_f64(),
            replay: self.about.replay.as_deref(),
            replay_key: self.about.replay_key.as_deref(),
            sequences: Default::default(),
            more: false,
        };
        for payload in heartbeat.payloads(self.topics.sequences()) {
            if !send_frames(&link.socket, &[wire::HEARTBEAT.as_bytes(), &payload]) {
                break; // at the high-water mark: the next heartbeat has the same numbers
            }
        }
    }
}

impl Link {
    /// Read subscriptions; return whether there is a new one.
    fn read_subscriptions(&mut self) -> bool {
        let mut is_new = false;
        while self.socket.get_events().is_ok_and(|events| events.contains(zmq::POLLIN)) {
            let Ok(message) = self.socket.recv_bytes(zmq::DONTWAIT) else { break };
            match message.split_first() {
                Some((1, prefix)) => {
                    self.subscribed.insert(prefix.to_vec());
                    is_new = true;
                }
                Some((0, prefix)) => {
                    self.subscribed.remove(prefix);
                }
                _ => {}
            }
        }
        is_new
    }
}

fn send_frames(socket: &zmq::Socket, frames: &[&[u8]]) -> bool {
    frames.iter().enumerate().all(|(at, frame)| {
        let more = if at + 1 < frames.len() { zmq::SNDMORE } else { 0 };
        loop {
            match socket.send(*frame, zmq::DONTWAIT | more) {
                Err(zmq::Error::EINTR) => continue,
                result => return result.is_ok(),
            }
        }
    })
}

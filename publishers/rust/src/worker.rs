//! A publisher's thread: heartbeats, replay, and which gateways may connect.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::wire::Request;
use crate::{curve, Error, Options, Shared};

const LOOK: Duration = Duration::from_secs(1);
const MEND: Duration = Duration::from_secs(1);
const REQUEST_BYTES_MAX: i64 = 64 * 1024;
const REPLIES_QUEUED_MAX: i32 = 32;

const DISCONNECTED: u16 = zmq::SocketEvent::DISCONNECTED as u16;
const FAILED: u16 = zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL as u16
    | zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL as u16
    | zmq::SocketEvent::HANDSHAKE_FAILED_AUTH as u16;
const CONNECTED: u16 = zmq::SocketEvent::CONNECTED as u16;
const UP: u16 = zmq::SocketEvent::HANDSHAKE_SUCCEEDED as u16;
const TRIED: u16 = zmq::SocketEvent::CONNECT_RETRIED as u16 | CONNECTED;

pub struct Worker {
    pub shared: Arc<Mutex<Shared>>,
    /// One for each link, in their order.
    pub lines: Vec<Line>,
    pub woken: zmq::Socket,
    pub router: Option<zmq::Socket>,
    pub guard: Option<zmq::Socket>,
    pub options: Options,
}

pub fn open_guard(context: &zmq::Context) -> Result<zmq::Socket, Error> {
    let guard = context.socket(zmq::ROUTER)?;
    guard.set_linger(0)?;
    guard.bind("inproc://zeromq.zap.01")?;
    Ok(guard)
}

pub fn open_router(context: &zmq::Context, options: &Options, linger: i32) -> Result<zmq::Socket, Error> {
    let router = context.socket(zmq::ROUTER)?;
    router.set_linger(linger)?;
    router.set_sndhwm(REPLIES_QUEUED_MAX)?;
    router.set_maxmsgsize(REQUEST_BYTES_MAX)?;
    router.set_router_mandatory(true)?; // otherwise a reply that cannot be queued is dropped silently
    if let Some(keys) = &options.curve {
        curve::serve(&router, keys)?;
    }
    router.bind(&options.replay_endpoint)?;
    Ok(router)
}

/// Open the XPUB of an endpoint, number `n`.
pub fn open_socket(
    context: &zmq::Context,
    options: &Options,
    address: &str,
    linger: i32,
    n: usize,
) -> Result<(zmq::Socket, Line), Error> {
    let mut socket = context.socket(zmq::XPUB)?;
    socket.set_linger(linger)?;
    socket.set_sndhwm(options.high_water_mark)?;
    // Without it a second subscriber to the same topics, or one that subscribes again, is not noticed.
    socket.set_xpub_verbose(true)?;
    // Without this one a socket at its high-water mark drops messages silently. The crate zmq has no method for it.
    let yes: i32 = 1;
    let option = zmq_sys::ZMQ_XPUB_NODROP as i32;
    // SAFETY: the socket is open, and the option is an int that libzmq copies.
    let failed = unsafe {
        zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), option, (&raw const yes).cast(), size_of_val(&yes))
    };
    if failed != 0 {
        return Err(Error("this libzmq has no ZMQ_XPUB_NODROP: 4.2 or later is needed".to_owned()));
    }
    // With a domain, libzmq refuses what does not speak ZMTP 2 or later. Otherwise it assumes ZMTP 1, which has no
    // subscriptions, and makes one; it aborts the process if the socket is just being closed.
    socket.set_zap_domain("bus")?;
    if let Some(keys) = &options.curve {
        (if options.bind { curve::serve } else { curve::approach })(&socket, keys)?;
    }
    if options.bind {
        socket.bind(address)?;
        let line = Line::new(&socket, address, None)?;
        return Ok((socket, line));
    }
    let events = format!("inproc://monitor-{n}");
    socket.monitor(&events, i32::from(FAILED | DISCONNECTED | TRIED | UP))?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.set_linger(0)?;
    monitor.connect(&events)?;
    socket.connect(address)?;
    let line = Line::new(&socket, address, Some(monitor))?;
    Ok((socket, line))
}

/// The state of an endpoint's connection, for the thread.
pub struct Line {
    address: String,
    fd: RawFd,
    /// Reports events of the connection, if this end connects.
    monitor: Option<zmq::Socket>,
    /// Since when libzmq has not tried to connect again.
    given_up: Option<Instant>,
    /// Whether the newest connection completed its handshake.
    speaks_zmtp: bool,
}

impl Line {
    fn new(socket: &zmq::Socket, address: &str, monitor: Option<zmq::Socket>) -> Result<Self, Error> {
        let (address, fd) = (address.to_owned(), socket.get_fd()?);
        Ok(Self { address, fd, monitor, given_up: None, speaks_zmtp: false })
    }
}

impl Worker {
    pub fn run(mut self) {
        let heartbeat = self.options.heartbeat;
        let mut due = Instant::now() + heartbeat;
        loop {
            self.wait(if heartbeat.is_zero() { LOOK } else { due.saturating_duration_since(Instant::now()).min(LOOK) });
            let refused = match (&self.guard, &self.options.curve) {
                (Some(socket), Some(keys)) => curve::guard(socket, keys),
                _ => 0,
            };
            let shared = self.shared.clone();
            let mut shared = lock(&shared);
            shared.counts.refused += refused;
            for line in &mut self.lines {
                line.read(&mut shared);
            }
            if shared.closed {
                for (line, link) in self.lines.iter().zip(std::mem::take(&mut shared.links)) {
                    // Send nothing if the other end does not speak ZMTP: libzmq must not connect to it again to send messages.
                    if line.monitor.is_some() && !line.speaks_zmtp {
                        let _ = link.socket.set_linger(0);
                    }
                }
                return;
            }
            shared.welcome_subscribers();
            for (line, link) in self.lines.iter_mut().zip(&shared.links) {
                line.mend(&link.socket);
            }
            if !heartbeat.is_zero() && Instant::now() >= due {
                shared.beat_all(heartbeat);
                due = (due + heartbeat).max(Instant::now());
            }
            drop(shared);
            if let Some(router) = &self.router {
                self.answer(router);
            }
        }
    }

    /// Wait until something came. Other threads use the XPUBs: this one waits for their descriptors. Sending a message
    /// can reset a descriptor unnoticed; so the next call, or this loop within a second, checks the socket itself.
    fn wait(&self, timeout: Duration) {
        let monitors = self.lines.iter().filter_map(|line| line.monitor.as_ref());
        let sockets = [&self.router, &self.guard].into_iter().flatten().chain(monitors);
        let mut items = vec![self.woken.as_poll_item(zmq::POLLIN)];
        items.extend(self.lines.iter().map(|line| zmq::PollItem::from_fd(line.fd, zmq::POLLIN)));
        items.extend(sockets.map(|socket| socket.as_poll_item(zmq::POLLIN)));
        let _ = zmq::poll(&mut items, timeout.as_millis() as i64 + 1);
    }

    /// Answer replay requests of gateways.
    fn answer(&self, router: &zmq::Socket) {
        while let Ok(frames) = router.recv_multipart(zmq::DONTWAIT) {
            let Some(request) = Request::parse(&frames[1..]) else { continue };
            let mut shared = self.lock();
            let pairs = shared.topics.read(&request.topic, request.first, request.last);
            let mut reply = vec![frames[0].clone()];
            reply.extend(request.reply(shared.about.incarnation, pairs));
            shared.counts.replayed += 1;
            drop(shared);
            let _ = router.send_multipart(reply, zmq::DONTWAIT); // the requester is gone or does not read; it will request again
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Line {
    /// Connect again if libzmq has stopped trying, as it does when the other end refuses a handshake.
    fn mend(&mut self, socket: &zmq::Socket) {
        if self.given_up.is_some_and(|since| since.elapsed() >= MEND) {
            self.given_up = None;
            let _ = socket.disconnect(&self.address);
            let _ = socket.connect(&self.address);
        }
    }

    /// Read the monitor's events.
    fn read(&mut self, shared: &mut Shared) {
        let Some(monitor) = &self.monitor else { return };
        while let Ok(frames) = monitor.recv_multipart(zmq::DONTWAIT) {
            let Some(event) = frames[0].get(..2).and_then(|bytes| bytes.try_into().ok()) else { continue };
            let event = u16::from_ne_bytes(event);
            shared.counts.refused += u64::from(event & FAILED != 0);
            self.given_up = (event == DISCONNECTED).then(Instant::now);
            if event == CONNECTED || event == UP {
                self.speaks_zmtp = event == UP;
            }
        }
    }
}

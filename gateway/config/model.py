"""The model: every setting with its default, limits, unit and one sentence of documentation."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.config.units import duration, number, rate


class Bus(Struct, frozen=True, kw_only=True):
    """The ZeroMQ side."""

    receive_hwm: Annotated[
        int, number("messages", "High-water mark of the receiving socket, per publisher.", least=1)
    ] = 100_000
    message_bytes_max: Annotated[
        int,
        number(
            "bytes", "Larger messages are refused and their publisher is reconnected.", least=64
        ),
    ] = 16_777_216
    heartbeat_seconds: Annotated[
        float, duration("How often a quiet connection is asked for a sign of life.", least=0.01)
    ] = 5.0
    heartbeat_timeout_seconds: Annotated[
        float, duration("A connection silent for so long is made anew.", least=0.02)
    ] = 15.0
    reconnect_seconds: Annotated[
        float, duration("First pause before a lost endpoint is tried again.", least=0.001)
    ] = 0.1
    reconnect_seconds_max: Annotated[
        float, duration("The pause doubles up to this.", least=0.001)
    ] = 5.0
    start_seconds: Annotated[
        float,
        duration("Publishers that are there have so long to be heard before the gateway is ready."),
    ] = 0.5
    linger_seconds: Annotated[
        float, duration("For how long a channel on demand is fetched after its last follower.")
    ] = 30.0
    drain_messages_max: Annotated[
        int, number("messages", "At most so many are taken per tick and endpoint.", least=1)
    ] = 2_000
    curve_key_file: Annotated[
        str,
        Meta(
            description="The gateway's own CURVE key, as `gateway keys` makes it; "
            '"" = the bus is neither encrypted nor authenticated.'
        ),
    ] = ""
    curve_server_file: Annotated[
        str, Meta(description="Public CURVE key of the publishers in `connect`.")
    ] = ""
    curve_clients: Annotated[
        str,
        Meta(description="Folder with the public CURVE keys of those who may connect to `bind`."),
    ] = ""


class Ingest(Struct, frozen=True, kw_only=True):
    """What is accepted from publishers."""

    payload_bytes_max: Annotated[
        int, number("bytes", "Events with a larger payload are rejected.", least=2)
    ] = 1_048_576
    channels_max: Annotated[
        int,
        number(
            "channels", "Channels that topics may create; events beyond it are rejected.", least=1
        ),
    ] = 1_000
    streams_max: Annotated[
        int,
        number(
            "streams",
            "Topics of publishers whose numbering is followed; the longest silent are forgotten.",
            least=1,
        ),
    ] = 10_000
    rejections_kept: Annotated[
        int, number("rejections", "The newest rejections kept for inspection over HTTP.")
    ] = 100


class Log(Struct, frozen=True, kw_only=True):
    """What a channel keeps for late and slow readers; [channels.<name>] overrides it for one channel."""

    events_max: Annotated[int, number("events", "The newest events kept per channel.", least=1)] = (
        1_000
    )
    bytes_max: Annotated[
        int,
        number("bytes", "Encoded bytes kept per channel; the newest event always stays.", least=1),
    ] = 16_777_216
    age_seconds_max: Annotated[float, duration("Older events are dropped; 0 = no limit.")] = 0.0
    key: Annotated[
        str,
        Meta(
            description='Path of the field that tells one subject from another, as in "data.host": '
            'each has a current value, and rates count for each; "" = there is one subject.'
        ),
    ] = ""
    keys_max: Annotated[
        int,
        number("keys", "Current values kept per channel; those changed longest ago go.", least=1),
    ] = 1_000
    on_demand: Annotated[
        bool,
        Meta(
            description="Fetch from the bus only while somebody follows; then there is no history."
        ),
    ] = False


class Clients(Struct, frozen=True, kw_only=True):
    """WebSocket clients and their limits."""

    connections_max: Annotated[
        int, number("clients", "Further ones are told to try again later (1013).", least=1)
    ] = 10_000
    subscriptions_max: Annotated[
        int, number("subscriptions", "Channels and patterns one client may follow.", least=1)
    ] = 128
    message_bytes_max: Annotated[
        int, number("bytes", "A client's larger message closes its connection (1009).", least=128)
    ] = 65_536
    compressed_bytes_min: Annotated[
        int,
        number(
            "bytes", "From this size on messages are compressed for who offers it; 0 = none are."
        ),
    ] = 0
    heartbeat_seconds: Annotated[
        float, duration("How often a quiet client is pinged.", least=0.01)
    ] = 30.0
    heartbeat_grace_seconds: Annotated[
        float,
        duration(
            "A client that leaves a ping unanswered for so long is closed (4001).", least=0.01
        ),
    ] = 10.0
    handshake_seconds: Annotated[
        float, duration("Time for a connection to send its HTTP request.", least=0.01)
    ] = 10.0
    buffer_bytes_max: Annotated[
        int,
        number(
            "bytes", "Unsent bytes above which a client lags and reads on from the log.", least=1
        ),
    ] = 65_536
    send_buffer_bytes: Annotated[
        int, number("bytes", "The kernel's buffer per client (SO_SNDBUF); 0 = the kernel's choice.")
    ] = 262_144
    stall_seconds_max: Annotated[
        float,
        duration("A lagging client that takes nothing for so long is closed (4000).", least=0.01),
    ] = 120.0
    lag_events_max: Annotated[
        int, number("events", "A client further behind is closed (4000); 0 = no limit.")
    ] = 0
    wildcards_max: Annotated[
        int, number("subscriptions", "Of its subscriptions so many may have wildcards.", least=0)
    ] = 32
    per_address_max: Annotated[
        int,
        number(
            "clients",
            "From one address; those of this machine count only if a proxy names them.",
            least=1,
        ),
    ] = 1_000
    per_user_max: Annotated[
        int, number("clients", "With one user's tokens; further ones are refused (4503).", least=1)
    ] = 100
    messages_burst: Annotated[
        int, number("messages", "What one client may send at once; then as below.", least=1)
    ] = 60
    messages_per_second: Annotated[
        float, rate("Messages of a client beyond its burst; more get an error.")
    ] = 10.0
    subscribes_burst: Annotated[
        int, number("messages", "Of them to subscribe or unsubscribe.", least=1)
    ] = 30
    subscribes_per_second: Annotated[float, rate("The same beyond that burst.")] = 1.0
    pings_burst: Annotated[int, number("messages", "Pings, of either kind.", least=1)] = 120
    pings_per_second: Annotated[float, rate("The same beyond that burst.")] = 2.0


class Fanout(Struct, frozen=True, kw_only=True):
    """How events are written to clients."""

    pace: Annotated[
        Literal["adaptive", "fixed"],
        Meta(description="adaptive = events gather only while it is busy; fixed = always."),
    ] = "adaptive"
    flush_seconds: Annotated[
        float,
        duration("For how long events may gather to be written at once; 0 = not at all.", most=1),
    ] = 0.01
    io_uring: Annotated[
        bool, Meta(description="Write to many clients with one system call, where Linux lets us.")
    ] = True


class Sessions(Struct, frozen=True, kw_only=True):
    """Lost connections that may come back."""

    ttl_seconds: Annotated[
        float, duration("For how long a lost session can be taken up again; 0 = not at all.")
    ] = 300.0
    messages_max: Annotated[
        int, number("messages", "Personal messages that wait for its return; the oldest make room.")
    ] = 1_000
    remembered_max: Annotated[
        int, number("sessions", "Lost sessions remembered; the oldest make room.")
    ] = 10_000


class Auth(Struct, frozen=True, kw_only=True):
    """Who may come in. Of `secret`, `secret_file`, `public_key_file` and `jwks_url` one switches it on."""

    secret: Annotated[
        str,
        Meta(
            description="Tokens are signed with this (HS256), at least 32 bytes.",
            extra={"secret": True},
        ),
    ] = ""
    secret_file: Annotated[str, Meta(description="The same, from a file.")] = ""
    public_key_file: Annotated[
        str,
        Meta(
            description="Tokens are signed for this public key in PEM; its kind decides how: "
            "RSA RS256, P-256 ES256, Ed25519 EdDSA."
        ),
    ] = ""
    jwks_url: Annotated[
        str, Meta(description="Tokens are signed for one of the public keys at this https URL.")
    ] = ""
    jwks_seconds: Annotated[float, duration("For how long those keys are good.", least=10)] = 300.0
    insecure_jwks: Annotated[
        bool, Meta(description="Fetch them over plain http, where anybody on the way may put his.")
    ] = False
    audience: Annotated[
        str, Meta(description='What a token\'s `aud` must have; "" = it must have no `aud`.')
    ] = ""
    issuer: Annotated[str, Meta(description='What its `iss` must be; "" = anything.')] = ""
    leeway_seconds: Annotated[
        float, duration("How far the clocks of issuer and gateway may be apart.")
    ] = 5.0
    query_token: Annotated[
        bool,
        Meta(description="Take tokens from ?token= too, where proxies and histories keep them."),
    ] = False
    open_role: Annotated[
        str, Meta(description="The role of everybody as long as there is no authentication.")
    ] = "admin"
    seconds: Annotated[
        float,
        duration("A client without token that follows nothing is closed after this.", least=0.01),
    ] = 10.0
    anonymous_seconds_max: Annotated[
        float, duration("A client without token is closed after this; 0 = never.")
    ] = 0.0
    warn_seconds: Annotated[
        float, duration("How long before its token expires a client is told.")
    ] = 30.0

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return f"Auth({shown | {'secret': '***' if self.secret else ''}})"

    @property
    def required(self) -> bool:
        """Whether clients need a token to be somebody."""
        return any((self.secret, self.secret_file, self.public_key_file, self.jwks_url))


class Role(Struct, frozen=True, kw_only=True):
    """What a role may do, by patterns of channels; everybody also has what `anonymous` has."""

    subscribe: Annotated[tuple[str, ...], Meta(description="Follow, and read the history of.")] = ()
    publish: Annotated[
        tuple[str, ...],
        Meta(description="Broadcast to; $everyone and $personal have to be named themselves."),
    ] = ()
    presence: Annotated[tuple[str, ...], Meta(description="See who follows.")] = ()
    admin: Annotated[
        bool, Meta(description="See the gateway's own state: status, clients, metrics.")
    ] = False


ROLES = {
    "anonymous": Role(subscribe=("metrics", "status")),
    "bot": Role(subscribe=("signals",)),
    "developer": Role(subscribe=("signals", "actions", "logs", "logs.>")),
    "monitor": Role(admin=True),
    "admin": Role(
        subscribe=(">",), publish=(">", "$everyone", "$personal"), presence=(">",), admin=True
    ),
}
"""The roles that there are without being configured: the first NeuroGraph server's, and a scraper's."""


class Tls(Struct, frozen=True, kw_only=True):
    """https and wss; files that change are read again."""

    cert_file: Annotated[
        str, Meta(description='The certificate and its chain in PEM; "" = plain http and ws.')
    ] = ""
    key_file: Annotated[str, Meta(description="Its private key in PEM.")] = ""


class Shutdown(Struct, frozen=True, kw_only=True):
    """How the gateway ends at SIGTERM or SIGINT."""

    seconds_max: Annotated[
        float, duration("It has ended after this, whatever happens.", least=0.01)
    ] = 10.0
    spread_seconds: Annotated[
        float, duration("Clients are told to come back after a random part of this.")
    ] = 5.0


class Logging(Struct, frozen=True, kw_only=True):
    """What the gateway says about itself, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe level written."),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="auto = console on a terminal, JSON lines otherwise."),
    ] = "auto"


class Config(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Made by `gateway.config.load`, which checks it."""

    host: Annotated[str, Meta(description="Address that HTTP and WebSocket are served on.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port that they are served on; 0 = any that is free.")
    ] = 8000
    workers: Annotated[
        int,
        number("processes", "How many hold the clients; 1 = the gateway itself.", least=1, most=64),
    ] = 1
    connect: Annotated[
        tuple[str, ...], Meta(description="Endpoints of publishers that bind (tcp:// or ipc://).")
    ] = ("tcp://127.0.0.1:5555",)
    bind: Annotated[str, Meta(description='Endpoint to which publishers connect; "" = none.')] = (
        "tcp://127.0.0.1:5556"
    )
    insecure_allow_remote: Annotated[
        bool,
        Meta(
            description="Allow addresses that other machines reach, although nobody is authenticated."
        ),
    ] = False
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of web pages that may use the gateway, as in "
            '"https://dash.example"; its own always may, "*" = all.'
        ),
    ] = ()
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names that it is called by, as in a Host header; its address and localhost "
            "are among them. On loopback no others are served, elsewhere all are if this is empty."
        ),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of proxies whose X-Forwarded-For and "
            "X-Forwarded-Proto are believed."
        ),
    ] = ()
    auth: Auth = Auth()
    roles: dict[str, Role] = field(default_factory=ROLES.copy)
    tls: Tls = Tls()
    bus: Bus = Bus()
    ingest: Ingest = Ingest()
    log: Log = Log()
    channels: dict[str, Log] = {}
    fanout: Fanout = Fanout()
    clients: Clients = Clients()
    sessions: Sessions = Sessions()
    shutdown: Shutdown = Shutdown()
    logging: Logging = Logging()

    def log_of(self, channel: str) -> Log:
        """What this channel keeps: its own settings, or the defaults of every channel."""
        return self.channels.get(channel, self.log)

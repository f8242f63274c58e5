//! The Rust publisher, with a driver that reads commands as lines of JSON: see publishers/conformance.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neurograph_publisher::{wire, Action, Connection, Curve, Error, Log, Metrics, Options, Publisher, Signal, Status};
use serde_json::{json, Value};

#[derive(Default)]
struct Driver {
    publisher: Option<Publisher>,
    bare: Option<zmq::Socket>,
}

fn text(command: &Value, name: &str) -> String {
    command[name].as_str().unwrap_or_default().to_owned()
}

fn maybe(command: &Value, name: &str) -> Option<String> {
    command[name].as_str().map(str::to_owned)
}

fn curve(files: &Value) -> Result<Curve, Error> {
    let others = PathBuf::from(text(files, "gateways_file"));
    let gateways = match std::fs::read_dir(&others) {
        Ok(folder) => folder.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![others],
    };
    Curve::from_files(Path::new(&text(files, "key_file")), &gateways)
}

impl Driver {
    fn publisher(&self) -> &Publisher {
        self.publisher.as_ref().expect("`open` comes first")
    }

    fn open(&mut self, command: &Value) -> Result<Value, Error> {
        let mut options = match maybe(command, "bind") {
            Some(endpoint) => Options::bind(endpoint),
            None => match command["connect"].as_array() {
                Some(several) => {
                    let mut endpoints = several.iter().filter_map(Value::as_str).map(str::to_owned);
                    let first = endpoints.next().unwrap_or_default();
                    Options { also_connect: endpoints.collect(), ..Options::connect(first) }
                }
                None => Options::connect(text(command, "connect")),
            },
        };
        let seconds = |name: &str, otherwise| command[name].as_f64().map_or(otherwise, Duration::from_secs_f64);
        options.high_water_mark = command["high_water_mark"].as_i64().map_or(options.high_water_mark, |n| n as i32);
        options.linger = seconds("linger_seconds", options.linger);
        options.heartbeat = seconds("heartbeat_seconds", options.heartbeat);
        options.name = maybe(command, "name").unwrap_or(options.name);
        options.replay = command["replay"].as_u64().unwrap_or(0) as usize;
        options.curve = command.get("curve").map(curve).transpose()?;
        let publisher = self.publisher.insert(Publisher::open(options)?);
        Ok(json!({
            "incarnation": publisher.incarnation(),
            "endpoint": publisher.endpoint(),
            "replay": publisher.replay_address(),
        }))
    }

    fn kind(&self, command: &Value) -> Result<bool, Error> {
        let (publisher, fields) = (self.publisher(), &command["fields"]);
        let (float, integer) = (|name: &str| fields[name].as_f64(), |name: &str| fields[name].as_u64());
        match text(command, "kind").as_str() {
            "metrics" => publisher.metrics(&Metrics {
                cpu_percent: float("cpu_percent"),
                memory_mb: float("memory_mb"),
                total_tokens: integer("total_tokens"),
                ..Metrics::default()
            }),
            "signal" => publisher.signal(
                &text(fields, "kind"),
                &Signal {
                    event_id: maybe(fields, "event_id"),
                    is_novel: fields["is_novel"].as_bool(),
                    priority: integer("priority").map(|n| n as u8),
                    neighbors_count: integer("neighbors_count"),
                    ..Signal::default()
                },
            ),
            "action" => publisher.action(
                &text(fields, "kind"),
                &Action {
                    action_id: maybe(fields, "action_id"),
                    status: maybe(fields, "status"),
                    execution_time_ms: float("execution_time_ms"),
                    ..Action::default()
                },
            ),
            "log" => {
                let data = Log { service: maybe(fields, "service"), ..Log::default() };
                publisher.log(&text(fields, "level"), &text(fields, "message"), &data)
            }
            "status" => {
                let data = Status { uptime_seconds: float("uptime_seconds"), version: maybe(fields, "version") };
                publisher.status(&text(fields, "state"), &data)
            }
            _ => {
                let data = Connection { total_connections: integer("total_connections"), ..Connection::default() };
                publisher.connection(&text(fields, "change"), &text(fields, "client_id"), &data)
            }
        }
    }

    fn burst(&self, command: &Value) -> Result<Value, Error> {
        let (count, bytes) = (command["count"].as_u64().unwrap_or(0), command["bytes"].as_u64().unwrap_or(0) as usize);
        let before = self.publisher().counts();
        for n in 0..count {
            let empty = format!(r#"{{"fill":"","n":{n}}}"#).len();
            let fill = "x".repeat(bytes.saturating_sub(empty));
            self.publisher().publish(&text(command, "topic"), &json!({"n": n, "fill": fill}))?;
        }
        let after = self.publisher().counts();
        Ok(json!({"published": after.published - before.published, "dropped": after.dropped - before.dropped}))
    }

    fn bench(&self, command: &Value) -> Result<Value, Error> {
        let (topic, json) = (text(command, "topic"), text(command, "json"));
        let data: Value = serde_json::from_str(&json).map_err(|error| Error(error.to_string()))?;
        let began = Instant::now();
        for _ in 0..command["count"].as_u64().unwrap_or(0) {
            self.publisher().publish(&topic, &data)?;
        }
        Ok(json!(began.elapsed().as_secs_f64()))
    }

    fn bare(&self, command: &Value) -> Result<Value, Error> {
        let (topic, json, envelope) = (text(command, "topic"), text(command, "json"), [0u8; 32]);
        let socket = self.bare.as_ref().expect("`bare_open` comes first");
        let began = Instant::now();
        for _ in 0..command["count"].as_u64().unwrap_or(0) {
            socket.send(topic.as_bytes(), zmq::SNDMORE)?;
            socket.send(json.as_bytes(), zmq::SNDMORE)?;
            socket.send(&envelope[..], 0)?;
        }
        Ok(json!(began.elapsed().as_secs_f64()))
    }

    fn carry_out(&mut self, command: &Value) -> Result<Value, Error> {
        let topic = text(command, "topic");
        Ok(match text(command, "do").as_str() {
            "open" => self.open(command)?,
            "wait" => {
                let timeout = Duration::from_secs_f64(command["seconds"].as_f64().unwrap_or(0.0));
                json!(self.publisher().wait_for_subscriber(timeout))
            }
            "kind" => json!(self.kind(command)?),
            "publish" => json!(match maybe(command, "event_type") {
                Some(event_type) => self.publisher().publish_event(&topic, &event_type, &command["data"])?,
                None => self.publisher().publish(&topic, &command["data"])?,
            }),
            "raw" => json!(self.publisher().publish_json(&topic, &text(command, "json"))?),
            "bytes" => {
                let hex = text(command, "hex");
                let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal digits");
                let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
                json!(self.publisher().publish_bytes(&topic, &bytes, maybe(command, "content_type").as_deref())?)
            }
            "unencodable" => json!(self.publisher().publish(&topic, &HashMap::from([((1, 2), 3)]))?),
            "burst" => self.burst(command)?,
            "counts" => {
                let counts = self.publisher().counts();
                json!({"published": counts.published, "dropped": counts.dropped})
            }
            "pack" => {
                let number = |name: &str| text(command, name).parse().unwrap_or(0u64);
                let (flags, time_ns) = (number("flags") as u32, number("time_ns"));
                let frame = wire::pack_envelope(flags, number("incarnation"), number("sequence"), time_ns);
                json!(frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            "bench" => self.bench(command)?,
            "bare_open" => {
                let socket = zmq::Context::new().socket(zmq::PUB)?;
                socket.set_sndhwm(0)?;
                socket.set_linger(0)?;
                socket.connect(&text(command, "endpoint"))?;
                self.bare = Some(socket);
                json!(true)
            }
            "bare" => self.bare(command)?,
            "close" => {
                self.publisher.as_mut().expect("`open` comes first").close();
                json!(true)
            }
            other => return Err(Error(format!("no such command: {other}"))),
        })
    }
}

fn main() {
    let mut driver = Driver::default();
    for line in std::io::stdin().lock().lines() {
        let command = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        let answer = match driver.carry_out(&command) {
            Ok(value) => json!({"ok": value}),
            Err(error) => json!({"error": error.to_string()}),
        };
        println!("{answer}");
        std::io::stdout().flush().expect("standard output");
    }
}

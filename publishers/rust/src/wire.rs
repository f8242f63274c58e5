//! The format of messages on the bus, and the checks of what is published (docs/protocol.md, part 1).

use std::collections::BTreeMap;

use serde::{de::IgnoredAny, Serialize};

use crate::Error;

pub const ENVELOPE_BYTES: usize = 32;
pub const HEARTBEAT: &str = "$heartbeat";
const TOPICS_PER_HEARTBEAT: usize = 1000;

/// Return the 32 bytes of an envelope.
pub fn pack_envelope(flags: u32, incarnation: u64, sequence: u64, time_ns: u64) -> [u8; ENVELOPE_BYTES] {
    let mut frame = [0; ENVELOPE_BYTES];
    frame[..4].copy_from_slice(b"NGE1");
    frame[4..8].copy_from_slice(&flags.to_be_bytes());
    frame[8..16].copy_from_slice(&incarnation.to_be_bytes());
    frame[16..24].copy_from_slice(&sequence.to_be_bytes());
    frame[24..].copy_from_slice(&time_ns.to_be_bytes());
    frame
}

pub fn check_topic(topic: &str) -> Result<(), Error> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let is_topic =
        topic.len() <= 128 && topic.split('.').all(|segment| !segment.is_empty() && segment.bytes().all(is_word));
    if is_topic {
        return Ok(());
    }
    Err(Error(format!(
        "{topic:?} is not a topic: segments of [A-Za-z0-9_-] joined by dots, at most 128 bytes"
    )))
}

const STANDARD: [&str; 6] = ["metrics", "signals", "actions", "logs", "status", "connections"];

pub fn check_not_standard(topic: &str) -> Result<(), Error> {
    if !STANDARD.contains(&topic) {
        return Ok(());
    }
    Err(Error(format!("{topic}: a standard channel has typed JSON; publish bytes on another topic")))
}

/// Return bytes as base64 (RFC 4648, section 4, with padding).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().enumerate().fold(0, |sum, (at, byte)| sum | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { digit as char } else { '=' });
        }
    }
    text
}

pub fn check_event_type(event_type: &str) -> Result<(), Error> {
    if (1..=128).contains(&event_type.chars().count()) {
        return Ok(());
    }
    Err(Error(format!("event_type: {event_type:?} is not text of 1 to 128 characters")))
}

pub fn check_json(topic: &str, text: &str) -> Result<(), Error> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error(format!("{topic}: {error}"))),
    }
}

#[derive(Serialize)]
pub struct Heartbeat<'a> {
    pub incarnation: &'a str,
    pub name: &'a str,
    pub interval: f64,
    pub replay: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_key: Option<&'a str>,
    pub sequences: BTreeMap<&'a str, u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl<'a> Heartbeat<'a> {
    /// Return the second frames of one heartbeat: one message for every 1,000 topics.
    pub fn payloads(mut self, sequences: impl Iterator<Item = (&'a str, u64)>) -> Vec<Vec<u8>> {
        let mut topics = sequences.peekable();
        let mut payloads = Vec::new();
        loop {
            self.sequences = topics.by_ref().take(TOPICS_PER_HEARTBEAT).collect();
            self.more = topics.peek().is_some();
            payloads.push(serde_json::to_vec(&self).expect("its keys are text"));
            if !self.more {
                return payloads;
            }
        }
    }
}

/// A replay request; `number` identifies it for the gateway.
#[derive(Debug)]
pub struct Request {
    pub number: Vec<u8>,
    pub topic: String,
    pub first: u64,
    pub last: u64,
}

impl Request {
    /// Read a request from the frames behind the identity.
    pub fn parse<F: AsRef<[u8]>>(frames: &[F]) -> Option<Self> {
        let [magic, number, topic, range] = frames else { return None };
        let range: [u8; 16] = range.as_ref().try_into().ok()?;
        if magic.as_ref() != b"NGR1" || number.as_ref().len() != 8 {
            return None;
        }
        Some(Self {
            number: number.as_ref().to_vec(),
            topic: String::from_utf8_lossy(topic.as_ref()).into_owned(),
            first: u64::from_be_bytes(range[..8].try_into().ok()?),
            last: u64::from_be_bytes(range[8..].try_into().ok()?),
        })
    }

    pub fn reply(&self, incarnation: u64, pairs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut frames = vec![b"NGR1".to_vec(), self.number.clone(), incarnation.to_be_bytes().to_vec()];
        frames.extend(pairs);
        frames
    }
}

/// Return unix nanoseconds as RFC 3339 in UTC, to the microsecond.
pub fn timestamp(time_ns: u64) -> String {
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    let (days, second) = ((seconds / 86400) as i64, seconds % 86400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

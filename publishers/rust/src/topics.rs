//! Each topic's newest number, and its newest messages for replay.

use std::collections::{HashMap, VecDeque};

use crate::wire::ENVELOPE_BYTES;

const MIB: usize = 1024 * 1024;
const TOPICS_MAX: usize = 100_000;
const KEPT_TOPICS_MAX: usize = 10_000;
const KEPT_TOPIC_BYTES_MAX: usize = 16 * MIB;
const KEPT_BYTES_MAX: usize = 128 * MIB;
const OVERHEAD_BYTES: usize = 256; // the memory of a message besides its payload
const FRAMES_PER_REPLY: usize = 2 * 256;

type Message = (Vec<u8>, [u8; ENVELOPE_BYTES]);

#[derive(Default)]
struct Topic {
    sequence: u64,
    kept: VecDeque<Message>, // ends with message `sequence`, if it is not empty
    bytes: usize,
    used: u64,
}

#[derive(Default)]
pub struct Topics {
    messages_max: usize,
    topics: HashMap<String, Topic>,
    kept_topics: usize,
    kept_bytes: usize,
    uses: u64,
}

impl Topics {
    pub fn new(messages_max: usize) -> Self {
        Self { messages_max, ..Self::default() }
    }

    /// Use a topic's next number; None if there are too many topics.
    pub fn next(&mut self, name: &str) -> Option<u64> {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.sequence += 1;
            return Some(topic.sequence);
        }
        if self.topics.len() >= TOPICS_MAX {
            return None;
        }
        self.topics.insert(name.to_owned(), Topic { sequence: 1, ..Topic::default() });
        Some(1)
    }

    /// Keep the message that has just used its topic's newest number.
    pub fn keep(&mut self, name: &str, payload: &[u8], envelope: [u8; ENVELOPE_BYTES]) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        if self.messages_max == 0 {
            return;
        }
        self.uses += 1;
        topic.used = self.uses;
        self.kept_topics += usize::from(topic.kept.is_empty());
        topic.kept.push_back((payload.to_vec(), envelope));
        topic.bytes += payload.len() + OVERHEAD_BYTES;
        self.kept_bytes += payload.len() + OVERHEAD_BYTES;
        while topic.kept.len() > self.messages_max || topic.bytes > KEPT_TOPIC_BYTES_MAX {
            let Some((dropped, _)) = topic.kept.pop_front() else { break };
            topic.bytes -= dropped.len() + OVERHEAD_BYTES;
            self.kept_bytes -= dropped.len() + OVERHEAD_BYTES;
        }
        while self.kept_topics > KEPT_TOPICS_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            // Rare, so the least recently used one may be looked for.
            let used = self.topics.values_mut().filter(|one| !one.kept.is_empty());
            let Some(least) = used.min_by_key(|one| one.used) else { break };
            self.kept_bytes -= least.bytes;
            self.kept_topics -= 1;
            least.bytes = 0;
            least.kept = VecDeque::new();
        }
    }

    /// Return payload, envelope, payload, envelope… from `first` to `last`: as much as fits into one reply.
    pub fn read(&self, name: &str, first: u64, last: u64) -> Vec<Vec<u8>> {
        let mut pairs = Vec::new();
        let Some(topic) = self.topics.get(name) else { return pairs };
        let oldest = topic.sequence - topic.kept.len() as u64 + 1;
        let mut left = MIB;
        for sequence in first.max(oldest)..=last.min(topic.sequence) {
            let (payload, envelope) = &topic.kept[(sequence - oldest) as usize];
            if !pairs.is_empty() && payload.len() > left || pairs.len() == FRAMES_PER_REPLY {
                break;
            }
            left = left.saturating_sub(payload.len());
            pairs.extend([payload.clone(), envelope.to_vec()]);
        }
        pairs
    }

    /// Each topic's newest number.
    pub fn sequences(&self) -> impl Iterator<Item = (&str, u64)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_of_each_topic_are_kept() {
        let mut topics = Topics::new(3);
        for n in 1..=5 {
            assert_eq!(Some(n), topics.next("a"));
            topics.keep("a", &[n as u8], [0; ENVELOPE_BYTES]);
        }
        let read = topics.read("a", 0, u64::MAX);
        assert_eq!(vec![3, 4, 5], read.iter().step_by(2).map(|one| one[0]).collect::<Vec<_>>());
        for n in 0..KEPT_TOPICS_MAX {
            let name = format!("t{n}");
            topics.next(&name);
            topics.keep(&name, b"x", [0; ENVELOPE_BYTES]);
        }
        assert!(topics.read("a", 1, 5).is_empty(), "10,000 topics are kept");
        assert_eq!(Some(6), topics.next("a"), "its number stays");
    }
}

//! The encoded bytes equal the shared vectors.

use neurograph_publisher::wire::{check_topic, pack_envelope, Heartbeat, Request};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/../conformance/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let text = hex.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn frames(list: &Value) -> Vec<Vec<u8>> {
    list.as_array().unwrap().iter().map(bytes).collect()
}

#[test]
fn envelopes() {
    for one in vectors("envelope")["valid"].as_array().unwrap() {
        let number = |name: &str| one[name].as_str().unwrap().parse::<u64>().unwrap();
        let packed = pack_envelope(number("flags") as u32, number("incarnation"), number("sequence"), number("time_ns"));
        assert_eq!(bytes(&one["hex"]), packed, "{}", one["name"]);
    }
}

#[test]
fn heartbeats() {
    for one in vectors("heartbeat")["valid"].as_array().unwrap() {
        let about = &one["publisher"];
        let sequences = about["sequences"].as_object().unwrap();
        let made = Heartbeat {
            incarnation: about["incarnation"].as_str().unwrap(),
            name: about["name"].as_str().unwrap(),
            interval: about["interval"].as_f64().unwrap(),
            replay: about["replay"].as_str(),
            replay_key: about["replay_key"].as_str(),
            sequences: Default::default(),
            more: false,
        }
        .payloads(sequences.iter().map(|(name, last)| (name.as_str(), last.as_u64().unwrap())));
        let mut seen = serde_json::Map::new();
        assert_eq!(one["messages"].as_array().unwrap().len(), made.len());
        for (payload, expected) in made.iter().zip(one["messages"].as_array().unwrap()) {
            let mut got: Value = serde_json::from_slice(payload).unwrap();
            let mut expected: Value = serde_json::from_slice(&bytes(&expected[1])).unwrap();
            // The order of topics and the spelling of numbers are free.
            seen.extend(got["sequences"].as_object().unwrap().clone());
            for beat in [&mut got, &mut expected] {
                beat["sequences"] = Value::Null;
                beat["interval"] = beat["interval"].as_f64().into();
            }
            assert_eq!(expected, got, "{}", one["name"]);
        }
        assert_eq!(*sequences, seen);
    }
}

#[test]
fn requests_and_replies() {
    let vectors = vectors("replay");
    let incarnation = u64::from_str_radix(vectors["incarnation"].as_str().unwrap(), 16).unwrap();
    for exchange in vectors["exchanges"].as_array().unwrap() {
        let request = Request::parse(&frames(&exchange["request"])).unwrap();
        let held = vectors["messages"].as_array().unwrap().iter().filter(|_| request.topic == "metrics");
        let pairs = held.map(|one| (bytes(&one["payload"]), bytes(&one["envelope"])));
        let wanted = pairs.filter(|(_, envelope)| (request.first..=request.last).contains(&u64::from(envelope[23])));
        let reply = request.reply(incarnation, wanted.flat_map(|(payload, envelope)| [payload, envelope]).collect());
        assert_eq!(frames(&exchange["reply"]), reply, "{}", exchange["name"]);
    }
    for invalid in vectors["invalid"].as_array().unwrap() {
        assert!(Request::parse(&frames(&invalid["request"])).is_none(), "{}", invalid["name"]);
    }
}

#[test]
fn topics() {
    let vectors = vectors("topics");
    for topic in vectors["valid"].as_array().unwrap() {
        assert!(check_topic(topic.as_str().unwrap()).is_ok(), "{topic}");
    }
    for topic in vectors["invalid"].as_array().unwrap() {
        assert!(check_topic(topic.as_str().unwrap()).is_err(), "{topic}");
    }
}

//! Publish a few events: cargo run --example publish [tcp://127.0.0.1:5556]

use std::time::Duration;

use neurograph_publisher::{Error, Log, Metrics, Options, Publisher};

fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:5556".to_owned());
    let mut publisher = Publisher::open(Options { replay: 1000, ..Options::connect(endpoint) })?;
    if !publisher.wait_for_subscriber(Duration::from_secs(5)) {
        eprintln!("no gateway yet: what is published now reaches nobody");
    }
    publisher.metrics(&Metrics { cpu_percent: Some(12.5), memory_mb: Some(2048.0), ..Metrics::default() })?;
    publisher.log("info", "started", &Log { service: Some("example".to_owned()), ..Log::default() })?;
    publisher.publish("robots.r2", &serde_json::json!({"x": 1.5}))?;
    publisher.close();
    let counts = publisher.counts();
    println!("published {}, dropped {}", counts.published, counts.dropped);
    Ok(())
}

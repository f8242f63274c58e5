// Publish a few events: go run ./example [tcp://127.0.0.1:5556]
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"neurograph/publisher"
)

func main() {
	endpoint := "tcp://127.0.0.1:5556"
	if len(os.Args) > 1 {
		endpoint = os.Args[1]
	}
	p, err := publisher.Open(publisher.Options{Connect: endpoint, Replay: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	if !p.WaitForSubscriber(5 * time.Second) {
		log.Print("no gateway yet: what is published now reaches nobody")
	}
	p.Metrics(publisher.Metrics{CPUPercent: publisher.Some(12.5), MemoryMB: publisher.Some(2048.0)})
	p.Log(publisher.Log{Level: "info", Message: "started", Service: "example"})
	p.Publish("robots.r2", map[string]any{"x": 1.5})
	counts := p.Counts()
	fmt.Printf("published %d, dropped %d\n", counts.Published, counts.Dropped)
}

// The Go publisher, with a driver that reads commands as lines of JSON: see publishers/conformance. A module of its own, as it compares with
// another library.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"neurograph/publisher"
)

// oneOrSeveral is a text, or a list of them.
type oneOrSeveral []string

func (o *oneOrSeveral) UnmarshalJSON(given []byte) error {
	var one string
	if err := json.Unmarshal(given, &one); err == nil {
		*o = oneOrSeveral{one}
		return nil
	}
	return json.Unmarshal(given, (*[]string)(o))
}

type command struct {
	Do               string
	Connect          oneOrSeveral
	Bind             string
	Name             string
	HighWaterMark    *int     `json:"high_water_mark"`
	LingerSeconds    *float64 `json:"linger_seconds"`
	HeartbeatSeconds *float64 `json:"heartbeat_seconds"`
	Replay           int
	Curve            *struct {
		KeyFile      string `json:"key_file"`
		GatewaysFile string `json:"gateways_file"`
	}
	Seconds     float64
	Kind        string
	Fields      json.RawMessage
	Topic       string
	Data        json.RawMessage
	EventType   *string `json:"event_type"`
	JSON        string
	Hex         string
	ContentType string `json:"content_type"`
	Count       int
	Bytes       int
	Flags       string
	Incarnation string
	Sequence    string
	TimeNs      string `json:"time_ns"`
	Endpoint    string
}

var (
	p    *publisher.Publisher
	bare *zmq4.Conn
)

func seconds(given *float64) time.Duration {
	if given == nil {
		return 0
	}
	if *given == 0 {
		return -1
	}
	return time.Duration(*given * float64(time.Second))
}

func keys(own, others string) (*publisher.Curve, error) {
	public, secret, err := publisher.ReadKeys(own)
	if err != nil {
		return nil, err
	}
	files := []string{others}
	if found, _ := filepath.Glob(others + "/*.key"); found != nil {
		files = found
	}
	curve := &publisher.Curve{PublicKey: public, SecretKey: secret}
	for _, file := range files {
		gateway, _, err := publisher.ReadKeys(file)
		if err != nil {
			return nil, err
		}
		curve.Gateways = append(curve.Gateways, gateway)
	}
	return curve, nil
}

func open(c command) (any, error) {
	options := publisher.Options{Bind: c.Bind, Name: c.Name, Replay: c.Replay}
	if len(c.Connect) > 0 {
		options.Connect, options.AlsoConnect = c.Connect[0], c.Connect[1:]
	}
	options.Linger, options.Heartbeat = seconds(c.LingerSeconds), seconds(c.HeartbeatSeconds)
	if c.HighWaterMark != nil {
		options.HighWaterMark = *c.HighWaterMark
		if options.HighWaterMark == 0 {
			options.HighWaterMark = -1
		}
	}
	var err error
	if c.Curve != nil {
		if options.Curve, err = keys(c.Curve.KeyFile, c.Curve.GatewaysFile); err != nil {
			return nil, err
		}
	}
	if p, err = publisher.Open(options); err != nil {
		return nil, err
	}
	return map[string]any{"incarnation": p.Incarnation(), "endpoint": p.Endpoint(), "replay": p.ReplayAddress()}, nil
}

func kind(c command) (any, error) {
	var positional struct {
		Kind, State, Change string
	}
	parse := func(into any) {
		if err := json.Unmarshal(c.Fields, into); err != nil {
			panic(err)
		}
	}
	parse(&positional)
	switch c.Kind {
	case "metrics":
		var data publisher.Metrics
		parse(&data)
		return p.Metrics(data)
	case "signal":
		var data publisher.Signal
		parse(&data)
		return p.Signal(positional.Kind, data)
	case "action":
		var data publisher.Action
		parse(&data)
		return p.Action(positional.Kind, data)
	case "log":
		var data publisher.Log
		parse(&data)
		return p.Log(data)
	case "status":
		data := publisher.Status{Status: positional.State}
		parse(&data)
		return p.Status(data)
	}
	var data publisher.Connection
	parse(&data)
	return p.Connection(positional.Change, data)
}

func burst(c command) (any, error) {
	before := p.Counts()
	for n := 0; n < c.Count; n++ {
		empty := len(fmt.Sprintf(`{"n":%d,"fill":""}`, n))
		if _, err := p.Publish(c.Topic, struct {
			N    int    `json:"n"`
			Fill string `json:"fill"`
		}{n, strings.Repeat("x", max(c.Bytes-empty, 0))}); err != nil {
			return nil, err
		}
	}
	after := p.Counts()
	return map[string]any{"published": after.Published - before.Published, "dropped": after.Dropped - before.Dropped}, nil
}

func pack(c command) any {
	number := func(text string) uint64 {
		value, _ := strconv.ParseUint(text, 10, 64)
		return value
	}
	return hex.EncodeToString(publisher.PackEnvelope(uint32(number(c.Flags)), number(c.Incarnation), number(c.Sequence), number(c.TimeNs)))
}

func bench(c command) (any, error) {
	var data any
	_ = json.Unmarshal([]byte(c.JSON), &data)
	began := time.Now()
	for n := 0; n < c.Count; n++ {
		if _, err := p.Publish(c.Topic, data); err != nil {
			return nil, err
		}
	}
	p.Flush(time.Minute)
	return time.Since(began).Seconds(), nil
}

// openBare opens a PUB of go-zeromq/zmq4 on one connection: its socket would send on it from one goroutine.
func openBare(c command) (any, error) {
	under, err := net.Dial("tcp", strings.TrimPrefix(c.Endpoint, "tcp://"))
	if err != nil {
		return nil, err
	}
	if bare, err = zmq4.Open(under, null.Security(), zmq4.Pub, nil, false, nil); err != nil {
		return nil, err
	}
	go func() {
		for {
			if _, err := bare.RecvMsg(); err != nil {
				return
			}
		}
	}()
	return true, nil
}

func sendBare(c command) (any, error) {
	topic, payload, envelope := []byte(c.Topic), []byte(c.JSON), make([]byte, 32)
	began := time.Now()
	for n := 0; n < c.Count; n++ {
		if err := bare.SendMsg(zmq4.NewMsgFrom(topic, payload, envelope)); err != nil {
			return nil, err
		}
	}
	return time.Since(began).Seconds(), nil
}

func carryOut(c command) (any, error) {
	switch c.Do {
	case "open":
		return open(c)
	case "wait":
		return p.WaitForSubscriber(time.Duration(c.Seconds * float64(time.Second))), nil
	case "kind":
		return kind(c)
	case "publish":
		if c.EventType != nil {
			return p.PublishEvent(c.Topic, *c.EventType, c.Data, time.Time{})
		}
		return p.Publish(c.Topic, c.Data)
	case "raw":
		return p.PublishJSON(c.Topic, []byte(c.JSON))
	case "bytes":
		data, _ := hex.DecodeString(c.Hex)
		return p.PublishBytes(c.Topic, data, c.ContentType)
	case "unencodable":
		return p.Publish(c.Topic, []float64{math.NaN()})
	case "burst":
		return burst(c)
	case "counts":
		counts := p.Counts()
		return map[string]any{"published": counts.Published, "dropped": counts.Dropped}, nil
	case "pack":
		return pack(c), nil
	case "bench":
		return bench(c)
	case "bare_open":
		return openBare(c)
	case "bare":
		return sendBare(c)
	case "close":
		return true, p.Close()
	}
	return nil, fmt.Errorf("no such command: %s", c.Do)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		answer, err := carryOut(c)
		if err != nil {
			_ = answers.Encode(map[string]string{"error": err.Error()})
		} else {
			_ = answers.Encode(map[string]any{"ok": answer})
		}
	}
	if p != nil {
		_ = p.Close()
	}
}

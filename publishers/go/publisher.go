// Package publisher publishes events to a NeuroGraph gateway over ZeroMQ. It speaks ZMTP itself: no libzmq, no cgo.
//
//	p, err := publisher.Open(publisher.Options{Connect: "tcp://127.0.0.1:5556"})
//	defer p.Close()
//	p.WaitForSubscriber(5 * time.Second)
//	p.Publish("robots.r2", map[string]any{"x": 1.5})
package publisher

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ErrClosed is the error of a closed publisher.
var ErrClosed = errors.New("this publisher is closed")

const (
	topicsMax       = 100_000
	nameMax         = 64
	retryMin        = 100 * time.Millisecond
	retryMax        = 5 * time.Second
	replySeconds    = 2
	lastWordSeconds = 1
)

// Options of a publisher. The zero value of each but Connect and Bind is a usable default.
type Options struct {
	// Either Connect, the gateway's endpoint, or Bind, an endpoint that gateways connect to; tcp:// or ipc://.
	Connect, Bind string
	// AlsoConnect are the endpoints of further gateways to connect to: each gets all events, with the same numbers.
	AlsoConnect []string
	// HighWaterMark is how many messages wait for a subscriber before further ones are dropped; default 100,000,
	// negative: no limit.
	HighWaterMark int
	// PayloadBytesMax: larger payloads are refused, as the gateway would reject them; default 1 MiB.
	PayloadBytesMax int
	// Linger is how long closing waits until queued messages are sent; default 1 s, negative: not at all.
	Linger time.Duration
	// Heartbeat is the interval of heartbeats; default 1 s, negative: none.
	Heartbeat time.Duration
	// Name is the publisher's name, to be shown; default: host and process.
	Name string
	// Replay is how many of the newest messages of each topic are kept for replay.
	Replay int
	// ReplayEndpoint is the endpoint for replay requests, default tcp://127.0.0.1:*; ReplayAddress is the address by
	// which gateways reach it, if that is not the endpoint bound.
	ReplayEndpoint, ReplayAddress string
	// Curve encrypts, if given.
	Curve *Curve
}

// Counts are numbers since the publisher was opened.
type Counts struct {
	Published uint64
	// Dropped messages did not go to a subscriber that was at the high-water mark.
	Dropped uint64
	// Replayed counts requests for missed messages that were answered.
	Replayed uint64
	// Refused counts handshakes that failed for their keys or mechanism.
	Refused uint64
}

// Publisher publishes events on a bus. Its methods may be called from any goroutine, and none but WaitForSubscriber,
// Flush and Close waits.
type Publisher struct {
	options     Options
	incarnation uint64
	flags       uint32
	endpoint    string
	replay      *string
	done        chan struct{} // closed when this publisher is
	listeners   []net.Listener
	tasks       sync.WaitGroup

	lock        sync.Mutex
	closed      bool
	counts      Counts
	sequences   map[string]uint64
	store       *store
	subscribers map[*subscriber]struct{}
	conns       map[net.Conn]struct{}
	change      chan struct{} // closed, and replaced, when something changes for which a goroutine may wait
}

// subscriber is one connection's queue; the publisher's lock is held for all of it.
type subscriber struct {
	conn     *conn
	queue    [][][]byte
	prefixes map[string]struct{}
	busy     bool // messages taken out of the queue are being written
	wake     chan struct{}
	gone     bool
}

// Open begins to publish.
func Open(options Options) (*Publisher, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	p := &Publisher{
		options:     options,
		incarnation: binary.BigEndian.Uint64(random[:]),
		endpoint:    options.Connect,
		done:        make(chan struct{}),
		sequences:   map[string]uint64{},
		subscribers: map[*subscriber]struct{}{},
		conns:       map[net.Conn]struct{}{},
		change:      make(chan struct{}),
	}
	if options.Heartbeat > 0 {
		p.flags = flagHeartbeats
	}
	if options.Replay > 0 {
		p.store = newStore(options.Replay)
		endpoint, err := p.listen(options.ReplayEndpoint, "ROUTER", p.answer)
		if err != nil {
			return nil, err
		}
		if options.ReplayAddress != "" {
			endpoint = options.ReplayAddress
		}
		p.replay = &endpoint
	}
	if options.Bind != "" {
		endpoint, err := p.listen(options.Bind, "XPUB", p.serve)
		if err != nil {
			p.release()
			return nil, err
		}
		p.endpoint = endpoint
	} else {
		for _, endpoint := range options.connects() {
			p.run(func() { p.dial(endpoint) })
		}
	}
	if options.Heartbeat > 0 {
		p.run(p.beatOften)
	}
	return p, nil
}

func (o *Options) complete() error {
	if (o.Connect == "") == (o.Bind == "") {
		return errors.New("give either Connect or Bind")
	}
	if o.Bind != "" && len(o.AlsoConnect) > 0 {
		return errors.New("AlsoConnect: further gateways go with Connect, not with Bind")
	}
	if o.Connect != "" {
		seen := map[string]bool{}
		for _, endpoint := range o.connects() {
			if _, _, err := split(endpoint); err != nil {
				return err
			}
			if seen[endpoint] {
				return fmt.Errorf("%s: given twice; its gateway would get each event twice", endpoint)
			}
			seen[endpoint] = true
		}
	}
	for _, one := range []struct {
		value    *time.Duration
		default_ time.Duration
	}{{&o.Linger, time.Second}, {&o.Heartbeat, time.Second}} {
		if *one.value == 0 {
			*one.value = one.default_
		}
	}
	if o.HighWaterMark == 0 {
		o.HighWaterMark = 100_000
	}
	if o.PayloadBytesMax == 0 {
		o.PayloadBytesMax = defaultPayloadLength
	}
	if o.ReplayEndpoint == "" {
		o.ReplayEndpoint = "tcp://127.0.0.1:*"
	}
	if o.Heartbeat > time.Hour {
		return fmt.Errorf("Heartbeat: %v is more than an hour", o.Heartbeat)
	}
	if o.Replay > 0 && o.Heartbeat < 0 {
		return errors.New("Replay: heartbeats say where to ask, and there are none")
	}
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = fmt.Sprintf("%.40s:%d", host, os.Getpid())
	}
	if utf8.RuneCountInString(o.Name) > nameMax {
		return fmt.Errorf("Name: %q has more than %d characters", o.Name, nameMax)
	}
	if o.Curve != nil {
		return o.Curve.prepare(o.Connect != "")
	}
	return nil
}

func (o *Options) connects() []string { return append([]string{o.Connect}, o.AlsoConnect...) }

// Incarnation is this publisher's in its envelopes: 16 hexadecimal digits.
func (p *Publisher) Incarnation() string { return fmt.Sprintf("%016x", p.incarnation) }

// Endpoint is the endpoint bound, with its real port, or the first one connected to.
func (p *Publisher) Endpoint() string { return p.endpoint }

// ReplayAddress is the address for replay requests; empty without Replay.
func (p *Publisher) ReplayAddress() string {
	if p.replay == nil {
		return ""
	}
	return *p.replay
}

// Counts returns the counts since the publisher was opened.
func (p *Publisher) Counts() Counts {
	p.lock.Lock()
	defer p.lock.Unlock()
	counts := p.counts
	if p.options.Curve != nil {
		counts.Refused += uint64(p.options.Curve.refused.Load())
	}
	return counts
}

// Publish publishes data as JSON. It returns false if a subscriber is at the high-water mark: the message is dropped
// for that one and counted, and its number stays used, so that the gateway notices the loss. An error says what is wrong with
// the topic or the data: nothing was sent, and no number used.
func (p *Publisher) Publish(topic string, data any) (bool, error) {
	if err := checkTopic(topic); err != nil {
		return false, err
	}
	payload, err := json.Marshal(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", topic, err)
	}
	return p.send(topic, payload)
}

// PublishJSON publishes JSON text: it is checked and sent unchanged.
func (p *Publisher) PublishJSON(topic string, text []byte) (bool, error) {
	if err := checkTopic(topic); err != nil {
		return false, err
	}
	if err := checkJSON(text); err != nil {
		return false, fmt.Errorf("%s: %w", topic, err)
	}
	return p.send(topic, append([]byte(nil), text...))
}

// PublishEvent publishes an event of a type; the zero time is now.
func (p *Publisher) PublishEvent(topic, eventType string, data any, moment time.Time) (bool, error) {
	if err := checkEventType(eventType); err != nil {
		return false, err
	}
	if moment.IsZero() {
		moment = time.Now()
	}
	return p.Publish(topic, struct {
		EventType string `json:"event_type"`
		Timestamp string `json:"timestamp"`
		Data      any    `json:"data"`
	}{eventType, moment.UTC().Format(time.RFC3339Nano), data})
}

// PublishBytes publishes bytes, such as an image, with their content type if it is not empty. On the bus they are base64:
// the gateway's limit counts 4 for 3 bytes.
func (p *Publisher) PublishBytes(topic string, data []byte, contentType string) (bool, error) {
	if isStandard(topic) {
		return false, fmt.Errorf("%s: a standard channel has typed JSON; publish bytes on another topic", topic)
	}
	if data == nil {
		data = []byte{} // nil would be null
	}
	return p.Publish(topic, struct {
		Timestamp   string `json:"timestamp"`
		ContentType string `json:"content_type,omitempty"`
		Base64      []byte `json:"data_base64"`
	}{time.Now().UTC().Format(time.RFC3339Nano), contentType, data})
}

func (p *Publisher) send(topic string, payload []byte) (bool, error) {
	if len(payload) > p.options.PayloadBytesMax {
		return false, fmt.Errorf("%s: %d bytes of JSON exceed %d: publish less at once, or raise PayloadBytesMax here and "+
			"ingest.payload_bytes_max at the gateway", topic, len(payload), p.options.PayloadBytesMax)
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.closed {
		return false, ErrClosed
	}
	sequence := p.sequences[topic] + 1
	if sequence == 1 && len(p.sequences) >= topicsMax {
		return false, fmt.Errorf("%s: one topic too many; a publisher numbers %d of them", topic, topicsMax)
	}
	p.sequences[topic] = sequence
	envelope := PackEnvelope(p.flags, p.incarnation, sequence, uint64(time.Now().UnixNano()))
	if p.store != nil {
		p.store.add(topic, sequence, payload, envelope)
	}
	frames := [][]byte{[]byte(topic), payload, envelope}
	everywhere := true
	for one := range p.subscribers {
		if one.wants(topic) && !one.add(frames, p.options.HighWaterMark) {
			everywhere = false
		}
	}
	if everywhere {
		p.counts.Published++
	} else {
		p.counts.Dropped++
	}
	return everywhere, nil
}

// WaitForSubscriber waits until there is a subscriber, at each endpoint that is connected to; what is published before
// reaches nobody.
func (p *Publisher) WaitForSubscriber(timeout time.Duration) bool {
	return p.waitUntil(timeout, func() bool {
		found := 0
		for one := range p.subscribers {
			if len(one.prefixes) > 0 {
				found++
			}
		}
		return found >= len(p.options.connects())
	})
}

// Flush waits until all that was published is handed to the network.
func (p *Publisher) Flush(timeout time.Duration) bool {
	return p.waitUntil(timeout, func() bool {
		for one := range p.subscribers {
			if len(one.queue) > 0 || one.busy {
				return false
			}
		}
		return true
	})
}

func (p *Publisher) waitUntil(timeout time.Duration, is func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		p.lock.Lock()
		found, change := is(), p.change
		p.lock.Unlock()
		if found {
			return true
		}
		select {
		case <-change:
		case <-timer.C:
			return false
		}
	}
}

// changed wakes goroutines that wait; the lock is held.
func (p *Publisher) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

// Close sends a farewell and queued messages, for at most Options.Linger, and closes all connections.
func (p *Publisher) Close() error {
	p.lock.Lock()
	if p.closed {
		p.lock.Unlock()
		return nil
	}
	p.closed = true
	for one := range p.subscribers {
		p.beat(one, 0)
	}
	p.lock.Unlock()
	if p.Flush(max(p.options.Linger, 0)) {
		// Close the sending half, and let the gateways read to the end: closing at once may discard what is on its way.
		p.lock.Lock()
		for one := range p.subscribers {
			if half, ok := one.conn.net.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		}
		p.lock.Unlock()
		p.waitUntil(min(max(p.options.Linger, 0), lastWordSeconds*time.Second), func() bool { return len(p.subscribers) == 0 })
	}
	p.release()
	return nil
}

func (p *Publisher) release() {
	p.lock.Lock()
	p.closed = true
	close(p.done)
	for _, listener := range p.listeners {
		_ = listener.Close()
	}
	for under := range p.conns {
		_ = under.Close()
	}
	p.lock.Unlock()
	p.tasks.Wait()
}

func (p *Publisher) run(task func()) {
	p.tasks.Add(1)
	go func() {
		defer p.tasks.Done()
		task()
	}()
}

// own keeps a connection to be closed with the publisher; false: it is closed already.
func (p *Publisher) own(under net.Conn) bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	select {
	case <-p.done:
		_ = under.Close()
		return false
	default:
		p.conns[under] = struct{}{}
		return true
	}
}

// attend does the handshake on a connection, and serves it until it ends; it returns whether the handshake succeeded.
func (p *Publisher) attend(under net.Conn, socketType string, bound bool, serve func(*conn)) bool {
	if !p.own(under) {
		return false
	}
	defer func() {
		_ = under.Close()
		p.lock.Lock()
		delete(p.conns, under)
		p.lock.Unlock()
	}()
	c, err := newConn(under, socketType, bound, p.options.Curve)
	if err != nil {
		p.lock.Lock()
		if errors.Is(err, errHandshake) {
			p.counts.Refused++
		}
		p.lock.Unlock()
		return false
	}
	serve(c)
	return true
}

func (p *Publisher) listen(endpoint, socketType string, serve func(*conn)) (string, error) {
	network, address, err := split(endpoint)
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(address, ":0") && network == "tcp" && strings.HasPrefix(address, ":") {
		network = "tcp4"
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return "", fmt.Errorf("%s: %w", endpoint, err)
	}
	p.listeners = append(p.listeners, listener)
	p.run(func() {
		for {
			under, err := listener.Accept()
			if err == nil {
				p.run(func() { p.attend(under, socketType, true, serve) })
				continue
			}
			select {
			case <-p.done:
				return
			case <-time.After(retryMin): // out of file descriptors, say
			}
		}
	})
	return endpointOf(listener.Addr()), nil
}

// dial connects, and again when the connection ends.
func (p *Publisher) dial(endpoint string) {
	network, address, _ := split(endpoint)
	pause := retryMin
	for {
		if under, err := net.DialTimeout(network, address, handshakeSeconds*time.Second); err == nil {
			if p.attend(under, "XPUB", false, p.serve) {
				pause = retryMin
			}
		}
		select {
		case <-p.done:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMax)
	}
}

// serve publishes to a subscriber until its connection ends.
func (p *Publisher) serve(c *conn) {
	one := &subscriber{conn: c, prefixes: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	p.lock.Lock()
	p.subscribers[one] = struct{}{}
	p.lock.Unlock()
	p.run(func() { p.write(one) })
	for {
		frames, err := c.read()
		if err != nil {
			break
		}
		p.subscription(one, frames[0])
	}
	p.lock.Lock()
	delete(p.subscribers, one)
	one.gone = true
	one.nudge()
	p.changed()
	p.lock.Unlock()
}

func (p *Publisher) subscription(one *subscriber, message []byte) {
	if len(message) == 0 {
		return
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	switch prefix := string(message[1:]); message[0] {
	case 0:
		delete(one.prefixes, prefix)
	case 1:
		one.prefixes[prefix] = struct{}{}
		if !p.closed && p.options.Heartbeat > 0 {
			p.beat(one, p.options.Heartbeat)
		}
	}
	p.changed()
}

// write empties a subscriber's queue.
func (p *Publisher) write(one *subscriber) {
	for {
		p.lock.Lock()
		batch := one.queue
		if len(batch) > 64 { // the rest still counts towards the high-water mark
			batch = batch[:64:64]
		}
		one.queue = one.queue[len(batch):]
		one.busy = len(batch) > 0
		if len(one.queue) == 0 {
			one.queue = nil
			if !one.busy {
				p.changed()
			}
		}
		gone := one.gone
		p.lock.Unlock()
		if gone {
			return
		}
		for _, frames := range batch {
			_ = one.conn.write(frames)
		}
		if len(batch) > 0 {
			if one.conn.flush() != nil {
				_ = one.conn.net.Close() // its reader cleans up
				return
			}
			continue
		}
		<-one.wake
	}
}

func (one *subscriber) wants(topic string) bool {
	if _, all := one.prefixes[""]; all {
		return true
	}
	for prefix := range one.prefixes {
		if strings.HasPrefix(topic, prefix) {
			return true
		}
	}
	return false
}

func (one *subscriber) add(frames [][]byte, mark int) bool {
	if mark >= 0 && len(one.queue) >= mark {
		return false
	}
	one.queue = append(one.queue, frames)
	if len(one.queue) == 1 {
		one.nudge()
	}
	return true
}

func (one *subscriber) nudge() {
	select {
	case one.wake <- struct{}{}:
	default:
	}
}

// beat sends a heartbeat; the lock is held.
func (p *Publisher) beat(one *subscriber, interval time.Duration) {
	if p.options.Heartbeat < 0 || !one.wants(heartbeatTopic) {
		return
	}
	about := heartbeat{Incarnation: p.Incarnation(), Name: p.options.Name, Interval: interval.Seconds(), Replay: p.replay}
	if p.replay != nil && p.options.Curve != nil {
		about.ReplayKey = p.options.Curve.PublicKey
	}
	for _, frames := range about.messages(p.sequences) {
		one.add(frames, p.options.HighWaterMark)
	}
}

func (p *Publisher) beatOften() {
	ticker := time.NewTicker(p.options.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-ticker.C:
		}
		p.lock.Lock()
		if !p.closed {
			for one := range p.subscribers {
				p.beat(one, p.options.Heartbeat)
			}
		}
		p.lock.Unlock()
	}
}

// answer answers a replay request.
func (p *Publisher) answer(c *conn) {
	for {
		frames, err := c.read()
		if err != nil {
			return
		}
		asked, ok := parseRequest(frames)
		if !ok {
			continue
		}
		p.lock.Lock()
		pairs := p.store.read(asked.topic, asked.first, asked.last)
		p.counts.Replayed++
		p.lock.Unlock()
		_ = c.net.SetWriteDeadline(time.Now().Add(replySeconds * time.Second))
		_ = c.write(asked.reply(p.incarnation, pairs))
		if c.flush() != nil {
			return // the gateway does not read; it will request again
		}
	}
}

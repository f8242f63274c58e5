package publisher

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// ZMTP 3.1 (ZeroMQ RFC 37), as far as a publisher needs it: NULL and CURVE, over TCP and Unix sockets.

const (
	frameMore    = 1
	frameLong    = 2
	frameCommand = 4

	frameBytesMax    = 64 * 1024 // subscriptions and requests are small
	framesMax        = 16
	handshakeSeconds = 10
)

var errHandshake = errors.New("ZMTP handshake")

// conn is a ZMTP connection after its handshake. One goroutine may read, any may write.
type conn struct {
	net    net.Conn
	reader *bufio.Reader
	lock   sync.Mutex // for writing
	writer *bufio.Writer
	curve  *curveSession // nil: not encrypted
}

// newConn does the handshake as a socket of this type; keys is nil without CURVE.
func newConn(under net.Conn, socketType string, bound bool, keys *Curve) (*conn, error) {
	c := &conn{net: under, reader: bufio.NewReader(under), writer: bufio.NewWriterSize(under, 64*1024)}
	if err := under.SetDeadline(time.Now().Add(handshakeSeconds * time.Second)); err != nil {
		return nil, err
	}
	if err := c.greet(bound, keys); err != nil {
		return nil, err
	}
	metadata := property("Socket-Type", socketType)
	if socketType == "ROUTER" {
		metadata = append(metadata, property("Identity", "")...)
	}
	var err error
	switch {
	case keys == nil:
		err = c.shakeNull(metadata)
	case bound:
		c.curve, err = serveCurve(c, keys, metadata)
	default:
		c.curve, err = approachCurve(c, keys, metadata)
	}
	if err != nil {
		return nil, err
	}
	return c, under.SetDeadline(time.Time{})
}

func (c *conn) greet(bound bool, keys *Curve) error {
	var ours, theirs [64]byte
	ours[0], ours[9], ours[10], ours[11] = 0xFF, 0x7F, 3, 1
	mechanism := "NULL"
	if keys != nil {
		mechanism = "CURVE"
	}
	copy(ours[12:32], mechanism)
	if keys != nil && bound {
		ours[32] = 1
	}
	if _, err := c.net.Write(ours[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.reader, theirs[:]); err != nil {
		return err
	}
	if theirs[0] != 0xFF || theirs[9] != 0x7F || theirs[10] < 3 {
		return fmt.Errorf("%w: the peer does not speak ZMTP 3", errHandshake)
	}
	if asked := strings.TrimRight(string(theirs[12:32]), "\x00"); asked != mechanism {
		return fmt.Errorf("%w: the peer's mechanism is %q, ours %q", errHandshake, asked, mechanism)
	}
	return nil
}

func (c *conn) shakeNull(metadata []byte) error {
	if err := c.sendCommand("READY", metadata); err != nil {
		return err
	}
	_, err := c.expectCommand("READY")
	return err
}

func property(name, value string) []byte {
	text := append([]byte{byte(len(name))}, name...)
	text = binary.BigEndian.AppendUint32(text, uint32(len(value)))
	return append(text, value...)
}

// sendCommand sends a command of the handshake.
func (c *conn) sendCommand(name string, body []byte) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.writeFrame(frameCommand, append(append([]byte{byte(len(name))}, name...), body...))
	return c.writer.Flush()
}

// expectCommand reads a command of the handshake.
func (c *conn) expectCommand(name string) ([]byte, error) {
	flags, body, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	got, rest, ok := splitCommand(body)
	if flags&frameCommand == 0 || !ok || got != name {
		return nil, fmt.Errorf("%w: %q instead of %s", errHandshake, body[:min(len(body), 40)], name)
	}
	return rest, nil
}

func splitCommand(body []byte) (string, []byte, bool) {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return "", nil, false
	}
	return string(body[1 : 1+body[0]]), body[1+body[0]:], true
}

func (c *conn) writeFrame(flags byte, body []byte) {
	var head [9]byte
	if len(body) < 256 {
		head[0], head[1] = flags, byte(len(body))
		_, _ = c.writer.Write(head[:2])
	} else {
		head[0] = flags | frameLong
		binary.BigEndian.PutUint64(head[1:], uint64(len(body)))
		_, _ = c.writer.Write(head[:])
	}
	_, _ = c.writer.Write(body) // an error stays, and Flush returns it
}

func (c *conn) readFrame() (byte, []byte, error) {
	flags, err := c.reader.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	var size uint64
	if flags&frameLong != 0 {
		var long [8]byte
		if _, err := io.ReadFull(c.reader, long[:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(long[:])
	} else {
		short, err := c.reader.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		size = uint64(short)
	}
	if size > frameBytesMax {
		return 0, nil, fmt.Errorf("a frame of %d bytes", size)
	}
	body := make([]byte, size)
	_, err = io.ReadFull(c.reader, body)
	return flags, body, err
}

// write sends a message; what is buffered goes out at flush.
func (c *conn) write(frames [][]byte) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	for at, frame := range frames {
		var flags byte
		if at+1 < len(frames) {
			flags = frameMore
		}
		if c.curve != nil {
			flags, frame = 0, c.curve.seal(flags, frame)
		}
		c.writeFrame(flags, frame)
	}
	return nil
}

func (c *conn) flush() error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.writer.Flush()
}

// read returns the next message; subscriptions come as the messages that ZMTP 3.0 has for them. It answers pings.
func (c *conn) read() ([][]byte, error) {
	var frames [][]byte
	for {
		flags, body, err := c.readFrame()
		if err == nil && c.curve != nil {
			flags, body, err = c.curve.open(body)
		}
		if err != nil {
			return nil, err
		}
		if flags&frameCommand == 0 {
			frames = append(frames, body)
			if len(frames) > framesMax {
				return nil, fmt.Errorf("a message of more than %d frames", framesMax)
			}
			if flags&frameMore == 0 {
				return frames, nil
			}
			continue
		}
		switch name, rest, _ := splitCommand(body); name {
		case "SUBSCRIBE":
			return [][]byte{append([]byte{1}, rest...)}, nil
		case "CANCEL":
			return [][]byte{append([]byte{0}, rest...)}, nil
		case "PING":
			if err := c.pong(rest); err != nil {
				return nil, err
			}
		case "ERROR":
			return nil, fmt.Errorf("the peer says ERROR %q", rest)
		}
	}
}

func (c *conn) pong(ping []byte) error {
	body := []byte("\x04PONG")
	if len(ping) > 2 { // behind its time to live is what it wants back
		body = append(body, ping[2:]...)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.curve != nil {
		c.writeFrame(0, c.curve.seal(frameCommand, body))
	} else {
		c.writeFrame(frameCommand, body)
	}
	return c.writer.Flush()
}

// split returns an endpoint's parts for package net.
func split(endpoint string) (network, address string, err error) {
	switch {
	case strings.HasPrefix(endpoint, "tcp://"):
		host, port, err := net.SplitHostPort(strings.TrimPrefix(endpoint, "tcp://"))
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", endpoint, err)
		}
		if host == "*" {
			host = ""
		}
		if port == "*" {
			port = "0"
		}
		return "tcp", net.JoinHostPort(host, port), nil
	case strings.HasPrefix(endpoint, "ipc://"):
		return "unix", strings.TrimPrefix(endpoint, "ipc://"), nil
	}
	return "", "", fmt.Errorf("%q is not an endpoint: tcp://HOST:PORT or ipc://PATH", endpoint)
}

func endpointOf(address net.Addr) string {
	if address.Network() == "unix" {
		return "ipc://" + address.String()
	}
	return "tcp://" + strings.Replace(address.String(), "[::]", "0.0.0.0", 1)
}

package publisher

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sort"
	"unicode/utf8"
)

// The format of messages on the bus, and the checks of what is published (docs/protocol.md, part 1).

const (
	topicBytesMax        = 128
	eventTypeMax         = 128
	topicsPerHeartbeat   = 1000
	heartbeatTopic       = "$heartbeat"
	flagHeartbeats       = 1
	requestMagic         = "NGR1"
	envelopeMagic        = "NGE1"
	rangeBytes           = 16
	numberBytes          = 8
	defaultPayloadLength = 1 << 20
)

func isTopic(topic string) bool {
	if topic == "" || len(topic) > topicBytesMax {
		return false
	}
	segment := 0
	for i := 0; i < len(topic); i++ {
		switch c := topic[i]; {
		case c == '.':
			if segment == 0 {
				return false
			}
			segment = 0
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			segment++
		default:
			return false
		}
	}
	return segment > 0
}

func checkTopic(topic string) error {
	if !isTopic(topic) {
		return fmt.Errorf("%q is not a topic: segments of [A-Za-z0-9_-] joined by dots, at most %d bytes", topic, topicBytesMax)
	}
	return nil
}

func checkEventType(eventType string) error {
	if eventType == "" || utf8.RuneCountInString(eventType) > eventTypeMax {
		return fmt.Errorf("event_type: %q is not text of 1 to %d characters", eventType, eventTypeMax)
	}
	return nil
}

func isStandard(topic string) bool {
	switch topic {
	case "metrics", "signals", "actions", "logs", "status", "connections":
		return true
	}
	return false
}

// PackEnvelope returns the 32 bytes of an envelope.
func PackEnvelope(flags uint32, incarnation, sequence, timeNs uint64) []byte {
	frame := make([]byte, 0, 32)
	frame = append(frame, envelopeMagic...)
	frame = binary.BigEndian.AppendUint32(frame, flags)
	frame = binary.BigEndian.AppendUint64(frame, incarnation)
	frame = binary.BigEndian.AppendUint64(frame, sequence)
	return binary.BigEndian.AppendUint64(frame, timeNs)
}

type heartbeat struct {
	Incarnation string            `json:"incarnation"`
	Name        string            `json:"name"`
	Interval    float64           `json:"interval"`
	Replay      *string           `json:"replay"`
	ReplayKey   string            `json:"replay_key,omitempty"`
	Sequences   map[string]uint64 `json:"sequences"`
	More        bool              `json:"more,omitempty"`
}

// messages returns the frames of one heartbeat: one message for every 1,000 topics.
func (beat heartbeat) messages(sequences map[string]uint64) [][][]byte {
	topics := make([]string, 0, len(sequences))
	for topic := range sequences {
		topics = append(topics, topic)
	}
	sort.Strings(topics)
	var messages [][][]byte
	for first := true; first || len(topics) > 0; first = false {
		part := topics[:min(len(topics), topicsPerHeartbeat)]
		topics = topics[len(part):]
		beat.Sequences = make(map[string]uint64, len(part))
		for _, topic := range part {
			beat.Sequences[topic] = sequences[topic]
		}
		beat.More = len(topics) > 0
		payload, err := json.Marshal(beat)
		if err != nil {
			return nil // cannot happen: its numbers are finite
		}
		messages = append(messages, [][]byte{[]byte(heartbeatTopic), payload})
	}
	return messages
}

// request is a replay request; number identifies it for the gateway.
type request struct {
	number      []byte
	topic       string
	first, last uint64
}

func parseRequest(frames [][]byte) (request, bool) {
	if len(frames) != 4 || string(frames[0]) != requestMagic || len(frames[1]) != numberBytes || len(frames[3]) != rangeBytes {
		return request{}, false
	}
	return request{
		number: frames[1],
		topic:  string(frames[2]),
		first:  binary.BigEndian.Uint64(frames[3]),
		last:   binary.BigEndian.Uint64(frames[3][8:]),
	}, true
}

func (asked request) reply(incarnation uint64, pairs [][]byte) [][]byte {
	head := [][]byte{[]byte(requestMagic), asked.number, binary.BigEndian.AppendUint64(nil, incarnation)}
	return append(head, pairs...)
}

// checkJSON returns an error unless text is one JSON value in UTF-8.
func checkJSON(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("not UTF-8")
	}
	if !json.Valid(text) {
		return fmt.Errorf("not JSON: %.100s", bytes.TrimSpace(text))
	}
	return nil
}

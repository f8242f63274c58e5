package publisher

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"
)

func vectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../conformance/vectors/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func number(text string) uint64 {
	value, _ := strconv.ParseUint(text, 10, 64)
	return value
}

func TestEnvelopesAreAsTheVectorsSay(t *testing.T) {
	var file struct {
		Valid []struct {
			Name, Flags, Incarnation, Sequence, Hex string
			TimeNs                                  string `json:"time_ns"`
		}
	}
	vectors(t, "envelope", &file)
	for _, one := range file.Valid {
		packed := PackEnvelope(uint32(number(one.Flags)), number(one.Incarnation), number(one.Sequence), number(one.TimeNs))
		if got := hex.EncodeToString(packed); got != one.Hex {
			t.Errorf("%s: %s", one.Name, got)
		}
	}
}

func TestHeartbeatsAreAsTheVectorsSay(t *testing.T) {
	var file struct {
		Valid []struct {
			Name      string
			Publisher heartbeat
			Messages  [][2]string
		}
	}
	vectors(t, "heartbeat", &file)
	for _, one := range file.Valid {
		made := one.Publisher.messages(one.Publisher.Sequences)
		got, expected := map[string]any{}, map[string]any{}
		all := map[string]any{}
		for at, frames := range made {
			_ = json.Unmarshal(frames[1], &got)
			_ = json.Unmarshal(fromHex(t, one.Messages[at][1]), &expected)
			for topic, last := range got["sequences"].(map[string]any) {
				all[topic] = last
			}
			delete(got, "sequences") // the order of topics is free
			delete(expected, "sequences")
			if !reflect.DeepEqual(got, expected) {
				t.Errorf("%s: %v", one.Name, got)
			}
		}
		if len(made) != len(one.Messages) || len(all) != len(one.Publisher.Sequences) {
			t.Errorf("%s: %d messages, %d topics", one.Name, len(made), len(all))
		}
	}
}

func TestRepliesAreAsTheVectorsSay(t *testing.T) {
	var file struct {
		Incarnation string
		Messages    []struct{ Payload, Envelope string }
		Exchanges   []struct {
			Name           string
			Request, Reply []string
		}
		Invalid []struct {
			Name    string
			Request []string
		}
	}
	vectors(t, "replay", &file)
	frames := func(texts []string) (all [][]byte) {
		for _, text := range texts {
			all = append(all, fromHex(t, text))
		}
		return all
	}
	incarnation, _ := strconv.ParseUint(file.Incarnation, 16, 64)
	// What this store keeps has no holes: the vectors' message 5 was not kept, so message 6 begins anew.
	for _, exchange := range file.Exchanges {
		asked, ok := parseRequest(frames(exchange.Request))
		if !ok {
			t.Fatalf("%s: no request", exchange.Name)
		}
		var pairs [][]byte
		for _, one := range file.Messages {
			envelope := fromHex(t, one.Envelope)
			sequence := uint64(envelope[23])
			if asked.topic == "metrics" && sequence >= asked.first && sequence <= asked.last {
				pairs = append(pairs, fromHex(t, one.Payload), envelope)
			}
		}
		if got := asked.reply(incarnation, pairs); !reflect.DeepEqual(got, frames(exchange.Reply)) {
			t.Errorf("%s: %x", exchange.Name, got)
		}
	}
	for _, invalid := range file.Invalid {
		if _, ok := parseRequest(frames(invalid.Request)); ok {
			t.Errorf("%s: taken for a request", invalid.Name)
		}
	}
}

func TestTopicsAreAsTheVectorsSay(t *testing.T) {
	var file struct{ Valid, Invalid []string }
	vectors(t, "topics", &file)
	for _, topic := range file.Valid {
		if checkTopic(topic) != nil {
			t.Errorf("%q is refused", topic)
		}
	}
	for _, topic := range file.Invalid {
		if checkTopic(topic) == nil {
			t.Errorf("%q is taken", topic)
		}
	}
}

func TestTheStoreKeepsTheNewest(t *testing.T) {
	kept := newStore(3)
	for n := uint64(1); n <= 50; n++ {
		kept.add("a", n, []byte{byte(n)}, nil)
	}
	if got := kept.read("a", 0, math.MaxUint64); len(got) != 6 || got[0][0] != 48 || got[4][0] != 50 {
		t.Errorf("%v", got)
	}
	for n := 0; n < keptTopics; n++ {
		kept.add(fmt.Sprint("t", n), 1, []byte("x"), nil)
	}
	if kept.read("a", 1, 50) != nil || len(kept.topics) != keptTopics {
		t.Errorf("%d topics", len(kept.topics))
	}
}

func TestWhatIsNoJSONIsRefused(t *testing.T) {
	p, err := Open(Options{Bind: "tcp://127.0.0.1:*"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, data := range []any{math.NaN(), make(chan int), func() {}} {
		if _, err := p.Publish("a", data); err == nil {
			t.Errorf("%v is taken", data)
		}
	}
	for _, text := range []string{"", "{", "NaN", "1 2", "\"\xff\""} {
		if _, err := p.PublishJSON("a", []byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if p.WaitForSubscriber(time.Millisecond) {
		t.Error("a subscriber that is not there")
	}
}

func TestKeysInZ85(t *testing.T) {
	const key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
	bytes, err := fromZ85(key)
	if err != nil || toZ85(bytes) != key {
		t.Errorf("%v %v", toZ85(bytes), err)
	}
}

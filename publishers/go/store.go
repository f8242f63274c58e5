package publisher

import "container/list"

const (
	mib             = 1 << 20
	keptTopicBytes  = 16 * mib
	keptBytes       = 128 * mib
	keptTopics      = 10_000
	overheadBytes   = 256 // the memory of a message besides its payload
	pairsPerReply   = 256
	payloadPerReply = mib
)

type message struct{ payload, envelope []byte }

type keptTopic struct {
	name     string
	messages []message // message n is at n % len
	newest   uint64
	count    uint64
	bytes    int
	place    *list.Element
}

// store keeps the newest messages of each topic; beyond its limits the least recently used topic is dropped.
type store struct {
	messagesMax int
	topics      map[string]*keptTopic
	byUse       *list.List // the least recently used topic first
	bytes       int
}

func newStore(messagesMax int) *store {
	return &store{messagesMax: messagesMax, topics: map[string]*keptTopic{}, byUse: list.New()}
}

func (s *store) add(name string, sequence uint64, payload, envelope []byte) {
	topic := s.topics[name]
	if topic == nil {
		topic = &keptTopic{name: name, newest: sequence - 1}
		topic.place = s.byUse.PushBack(topic)
		s.topics[name] = topic
	} else {
		s.byUse.MoveToBack(topic.place)
	}
	size := len(payload) + overheadBytes
	for topic.count > 0 && (topic.count >= uint64(s.messagesMax) || topic.bytes+size > keptTopicBytes) {
		s.dropOldest(topic)
	}
	for topic.newest+1 < sequence && topic.count > 0 { // a topic that was dropped begins again
		s.dropOldest(topic)
	}
	if topic.count == uint64(len(topic.messages)) {
		grown := make([]message, min(max(2*len(topic.messages), 16), s.messagesMax))
		for n := topic.newest - topic.count + 1; n <= topic.newest; n++ {
			grown[n%uint64(len(grown))] = *topic.at(n)
		}
		topic.messages = grown
	}
	topic.newest = sequence
	topic.count++
	topic.bytes += size
	s.bytes += size
	*topic.at(sequence) = message{payload, envelope}
	for len(s.topics) > keptTopics || s.bytes > keptBytes {
		least := s.byUse.Remove(s.byUse.Front()).(*keptTopic)
		delete(s.topics, least.name)
		s.bytes -= least.bytes
	}
}

// read returns payload, envelope, payload, envelope… from first to last: as much as fits into one reply.
func (s *store) read(name string, first, last uint64) [][]byte {
	topic := s.topics[name]
	if topic == nil || topic.count == 0 {
		return nil
	}
	var pairs [][]byte
	left := payloadPerReply
	for n := max(first, topic.newest-topic.count+1); n <= min(last, topic.newest) && len(pairs) < 2*pairsPerReply; n++ {
		one := topic.at(n)
		left -= len(one.payload)
		if len(pairs) > 0 && left < 0 {
			break
		}
		pairs = append(pairs, one.payload, one.envelope)
	}
	return pairs
}

func (s *store) dropOldest(topic *keptTopic) {
	oldest := topic.at(topic.newest - topic.count + 1)
	size := len(oldest.payload) + overheadBytes
	topic.count--
	topic.bytes -= size
	s.bytes -= size
	*oldest = message{}
}

func (t *keptTopic) at(sequence uint64) *message {
	return &t.messages[sequence%uint64(len(t.messages))]
}

package publisher

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"sync/atomic"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/nacl/box"
)

// CurveZMQ (ZeroMQ RFC 26).

// Curve has keys in Z85, as in the files that `gateway keys` makes: see ReadKeys.
type Curve struct {
	PublicKey, SecretKey string
	// Gateways has the public keys: to connect, the gateway's; to bind, those of all that may connect.
	Gateways []string

	public, secret [32]byte
	known          [][32]byte
	refused        atomic.Int64
}

var keyLine = regexp.MustCompile(`(?m)^\s*(public|secret)-key\s*=\s*"(.{40})"`)

// ReadKeys reads a key file; the secret key is empty where the file has none.
func ReadKeys(path string) (publicKey, secretKey string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	for _, found := range keyLine.FindAllStringSubmatch(string(text), -1) {
		if found[1] == "public" {
			publicKey = found[2]
		} else {
			secretKey = found[2]
		}
	}
	if publicKey == "" {
		return "", "", fmt.Errorf("%s holds no CURVE key", path)
	}
	return publicKey, secretKey, nil
}

func (k *Curve) prepare(connects bool) error {
	secret, err := fromZ85(k.SecretKey)
	if err != nil {
		return fmt.Errorf("Curve.SecretKey: %w", err)
	}
	k.secret = secret
	curve25519.ScalarBaseMult(&k.public, &k.secret)
	k.PublicKey = toZ85(k.public)
	k.known = nil
	for _, text := range k.Gateways {
		key, err := fromZ85(text)
		if err != nil {
			return fmt.Errorf("Curve.Gateways: %w", err)
		}
		k.known = append(k.known, key)
	}
	if connects && len(k.known) != 1 {
		return fmt.Errorf("Curve.Gateways: to connect, name one gateway's key, not %d", len(k.known))
	}
	return nil
}

func (k *Curve) knows(key [32]byte) bool {
	for _, known := range k.known {
		if known == key {
			return true
		}
	}
	return false
}

// curveSession encrypts what goes over one connection.
type curveSession struct {
	shared        [32]byte
	sends, takes  string // prefixes of the nonces
	number, other uint64 // of the newest message each way
}

func nonce(prefix string, number uint64) *[24]byte {
	var made [24]byte
	copy(made[:], prefix)
	binary.BigEndian.PutUint64(made[16:], number)
	return &made
}

func longNonce(prefix string, rest []byte) *[24]byte {
	var made [24]byte
	copy(made[:8], prefix)
	copy(made[8:], rest)
	return &made
}

// curveCommand stands for frameCommand inside of an encrypted frame; frameMore is the same.
const curveCommand = 2

func (s *curveSession) seal(flags byte, body []byte) []byte {
	if flags == frameCommand {
		flags = curveCommand
	}
	s.number++
	made := binary.BigEndian.AppendUint64([]byte("\x07MESSAGE"), s.number)
	return box.SealAfterPrecomputation(made, append([]byte{flags}, body...), nonce(s.sends, s.number), &s.shared)
}

func (s *curveSession) open(frame []byte) (byte, []byte, error) {
	if len(frame) < 33 || string(frame[:8]) != "\x07MESSAGE" {
		return 0, nil, fmt.Errorf("CURVE: no MESSAGE")
	}
	number := binary.BigEndian.Uint64(frame[8:])
	if number <= s.other {
		return 0, nil, fmt.Errorf("CURVE: message %d came behind %d", number, s.other)
	}
	s.other = number
	opened, ok := box.OpenAfterPrecomputation(nil, frame[16:], nonce(s.takes, number), &s.shared)
	if !ok || len(opened) == 0 {
		return 0, nil, fmt.Errorf("CURVE: a message cannot be decrypted")
	}
	flags := opened[0] & frameMore
	if opened[0]&curveCommand != 0 {
		flags = frameCommand
	}
	return flags, opened[1:], nil
}

func randomBytes(size int) []byte {
	made := make([]byte, size)
	_, _ = rand.Read(made) // never fails
	return made
}

var errCurve = fmt.Errorf("%w: CURVE", errHandshake)

// approachCurve is the client's side.
func approachCurve(c *conn, keys *Curve, metadata []byte) (*curveSession, error) {
	server := keys.known[0]
	public, secret, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	hello := append([]byte{1, 0}, make([]byte, 72)...)
	hello = append(hello, public[:]...)
	hello = binary.BigEndian.AppendUint64(hello, 1)
	hello = box.Seal(hello, make([]byte, 64), nonce("CurveZMQHELLO---", 1), &server, secret)
	if err := c.sendCommand("HELLO", hello); err != nil {
		return nil, err
	}
	welcome, err := c.expectCommand("WELCOME")
	if err != nil {
		return nil, err
	}
	if len(welcome) != 160 {
		return nil, errCurve
	}
	opened, ok := box.Open(nil, welcome[16:], longNonce("WELCOME-", welcome[:16]), &server, secret)
	if !ok {
		return nil, fmt.Errorf("%w: the peer is not the gateway of that key", errCurve)
	}
	session := &curveSession{sends: "CurveZMQMESSAGEC", takes: "CurveZMQMESSAGES", number: 2}
	theirs := [32]byte(opened[:32])
	box.Precompute(&session.shared, &theirs, secret)

	random := randomBytes(16)
	vouched := append(append([]byte{}, public[:]...), server[:]...)
	vouch := box.Seal(random, vouched, longNonce("VOUCH---", random), &theirs, &keys.secret)
	plain := append(append(append([]byte{}, keys.public[:]...), vouch...), metadata...)
	initiate := binary.BigEndian.AppendUint64(append([]byte{}, opened[32:]...), 2)
	initiate = box.SealAfterPrecomputation(initiate, plain, nonce("CurveZMQINITIATE", 2), &session.shared)
	if err := c.sendCommand("INITIATE", initiate); err != nil {
		return nil, err
	}
	ready, err := c.expectCommand("READY")
	if err != nil {
		return nil, err
	}
	if len(ready) < 24 {
		return nil, errCurve
	}
	session.other = binary.BigEndian.Uint64(ready)
	if _, ok := box.OpenAfterPrecomputation(nil, ready[8:], nonce("CurveZMQREADY---", session.other), &session.shared); !ok {
		return nil, errCurve
	}
	return session, nil
}

// serveCurve is the server's side. One connection keeps its state in memory, so the cookie is only echoed.
func serveCurve(c *conn, keys *Curve, metadata []byte) (*curveSession, error) {
	hello, err := c.expectCommand("HELLO")
	if err != nil {
		return nil, err
	}
	if len(hello) != 194 || hello[0] != 1 {
		return nil, errCurve
	}
	client := [32]byte(hello[74:106])
	short := binary.BigEndian.Uint64(hello[106:])
	if _, ok := box.Open(nil, hello[114:], nonce("CurveZMQHELLO---", short), &client, &keys.secret); !ok {
		return nil, fmt.Errorf("%w: the peer wants another key than ours", errCurve)
	}
	public, secret, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	cookie, random := randomBytes(96), randomBytes(16)
	welcome := box.Seal(random, append(append([]byte{}, public[:]...), cookie...), longNonce("WELCOME-", random), &client, &keys.secret)
	if err := c.sendCommand("WELCOME", welcome); err != nil {
		return nil, err
	}
	initiate, err := c.expectCommand("INITIATE")
	if err != nil {
		return nil, err
	}
	if len(initiate) < 104+16+128 || string(initiate[:96]) != string(cookie) {
		return nil, errCurve
	}
	session := &curveSession{sends: "CurveZMQMESSAGES", takes: "CurveZMQMESSAGEC", number: 1}
	box.Precompute(&session.shared, &client, secret)
	session.other = binary.BigEndian.Uint64(initiate[96:])
	plain, ok := box.OpenAfterPrecomputation(nil, initiate[104:], nonce("CurveZMQINITIATE", session.other), &session.shared)
	if !ok {
		return nil, errCurve
	}
	// The vouch proves that who holds the client's lasting key made this connection's key.
	lasting := [32]byte(plain[:32])
	vouched, ok := box.Open(nil, plain[48:128], longNonce("VOUCH---", plain[32:48]), &lasting, secret)
	if !ok || string(vouched) != string(client[:])+string(keys.public[:]) {
		return nil, errCurve
	}
	if !keys.knows(lasting) {
		keys.refused.Add(1)
		_ = c.sendCommand("ERROR", []byte("\x03400"))
		return nil, fmt.Errorf("%w: the key %s is not known", errCurve, toZ85(lasting))
	}
	ready := binary.BigEndian.AppendUint64(nil, 1)
	ready = box.SealAfterPrecomputation(ready, metadata, nonce("CurveZMQREADY---", 1), &session.shared)
	return session, c.sendCommand("READY", ready)
}

const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

func toZ85(key [32]byte) string {
	text := make([]byte, 40)
	for at := 0; at < 8; at++ {
		value := binary.BigEndian.Uint32(key[4*at:])
		for digit := 4; digit >= 0; digit-- {
			text[5*at+digit] = z85[value%85]
			value /= 85
		}
	}
	return string(text)
}

func fromZ85(text string) (key [32]byte, err error) {
	if len(text) != 40 {
		return key, fmt.Errorf("%d characters are no key in Z85: it has 40", len(text))
	}
	for at := 0; at < 8; at++ {
		var value uint64
		for _, c := range []byte(text[5*at : 5*at+5]) {
			digit := uint64(255)
			for n := range z85 {
				if z85[n] == c {
					digit = uint64(n)
				}
			}
			value = value*85 + digit
			if digit == 255 || value > 1<<32-1 {
				return key, fmt.Errorf("this is no key in Z85")
			}
		}
		binary.BigEndian.PutUint32(key[4*at:], uint32(value))
	}
	return key, nil
}

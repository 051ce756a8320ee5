package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// keyedHash is HMAC-SHA256 under one key. Its states are used again: to set up
// the key costs more than to hash an identifier.
type keyedHash struct {
	states sync.Pool
}

type keyedState struct {
	hash  hash.Hash
	input []byte
	sum   []byte
}

func newKeyedHash(key []byte) *keyedHash {
	return &keyedHash{sync.Pool{New: func() any { return &keyedState{hash: hmac.New(sha256.New, key)} }}}
}

// sum hashes the parts as join writes them. It may be called concurrently.
func (k *keyedHash) sum(parts ...string) [sha256.Size]byte {
	s := k.states.Get().(*keyedState)
	defer k.states.Put(s)
	s.input = appendJoined(s.input[:0], parts...)
	s.hash.Reset()
	s.hash.Write(s.input)
	s.sum = s.hash.Sum(s.sum[:0])
	clear(s.input) // it held an identifier
	return [sha256.Size]byte(s.sum)
}

package seal

import (
	"bufio"
	"bytes"
	"context"
	stdhpke "crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudflare/circl/hpke"
)

func newSealer(t testing.TB, keys Keyring) *Sealer {
	t.Helper()
	s, err := NewSealer(context.Background(), keys, "shop", []string{"marketing", "advertising"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newOpener(t testing.TB, keys Keyring, purposes ...string) *Opener {
	t.Helper()
	o, err := NewOpener(context.Background(), keys, "shop", purposes)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// renewed is a sealer with the same keys, as after a restart.
func renewed(t testing.TB, s *Sealer) *Sealer {
	t.Helper()
	return &Sealer{
		workspace: s.workspace, psk: s.psk, pskID: s.pskID, recipients: s.recipients, now: s.now, after: s.after,
		current: make(map[string]*dataKey),
	}
}

// forger has what lies open: a public key, the format, and rows to imitate.
type forger struct {
	public  []byte
	row     DataKey
	binding Binding
}

// forge makes a value and the record of its key of what HPKE has exported.
func (f *forger) forge(t *testing.T, enc, exported []byte) (Sealed, DataKey) {
	t.Helper()
	aead, err := newAEAD(exported)
	if err != nil {
		t.Fatal(err)
	}
	key := f.row
	key.EncapsulatedKey, key.ID = enc, keyID(enc)
	text := binary.BigEndian.AppendUint64(nil, 1)
	return Sealed{key.ID, aead.Seal(text, nonce(1), []byte("planted@example.com"), additionalData("shop", key.ID, f.binding))}, key
}

// TestForgeryNeedsTheEdgeKey plants values as a writer to the warehouse could, who
// has all that is in it and the public key.
func TestForgeryNeedsTheEdgeKey(t *testing.T) {
	keys := newKeys(t)
	sealer, opener := newSealer(t, keys), newOpener(t, keys, "marketing")
	binding := Binding{Purpose: "marketing", Field: "email", Subject: "us1_00", Decision: "d1", Record: "r1"}
	_, row, err := sealer.Seal(binding, "jane@example.com")
	if err != nil {
		t.Fatal(err)
	}
	public, err := keys.Key(t.Context(), KeyPublic("marketing"))
	if err != nil {
		t.Fatal(err)
	}
	f := forger{public, row, binding}
	info := hpkeInfo("shop", "marketing", row.Recipient)
	parsed, err := hpke.KEM_XWING.Scheme().UnmarshalBinaryPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}

	forgeries := map[string]func() (enc, exported []byte, err error){
		"base mode": func() ([]byte, []byte, error) {
			sender, err := suite.NewSender(parsed, info)
			if err != nil {
				return nil, nil, err
			}
			enc, made, err := sender.Setup(rand.Reader)
			return enc, made.Export(exportContext, 32), err
		},
		"base mode of Go": func() ([]byte, []byte, error) {
			key, err := stdhpke.MLKEM768X25519().NewPublicKey(public)
			if err != nil {
				return nil, nil, err
			}
			enc, made, err := stdhpke.NewSender(key, stdhpke.HKDFSHA256(), stdhpke.AES256GCM(), info)
			if err != nil {
				return nil, nil, err
			}
			exported, err := made.Export(string(exportContext), 32)
			return enc, exported, err
		},
		"a pre-shared key of one's own": func() ([]byte, []byte, error) {
			sender, err := suite.NewSender(parsed, info)
			if err != nil {
				return nil, nil, err
			}
			enc, made, err := sender.SetupPSK(rand.Reader, randomKey(), []byte(row.PSKID))
			return enc, made.Export(exportContext, 32), err
		},
	}
	for name, make := range forgeries {
		enc, exported, err := make()
		if err != nil {
			t.Fatal(err)
		}
		s, key := f.forge(t, enc, exported)
		for _, id := range []string{row.PSKID, "", keyID(nil)} {
			key.PSKID = id
			if _, err := opener.Open(s, key, binding); !errors.Is(err, ErrCannotOpen) && !errors.Is(err, ErrNoKey) {
				t.Errorf("%s: a forged value opened, or failed otherwise: %v", name, err)
			}
		}
	}

	// What is above has to be right but for the edge key, or it would prove nothing.
	sender, err := suite.NewSender(parsed, info)
	if err != nil {
		t.Fatal(err)
	}
	enc, made, err := sender.SetupPSK(rand.Reader, sealer.psk, []byte(row.PSKID))
	if err != nil {
		t.Fatal(err)
	}
	s, key := f.forge(t, enc, made.Export(exportContext, 32))
	if got, err := opener.Open(s, key, binding); err != nil || got != "planted@example.com" {
		t.Fatalf("with the edge key it does not open either: %v", err)
	}
}

// TestOnlyItsOwnPlaceOpens seals for random places and tries each value in all the
// others: no two differ so little that one opens as the other.
func TestOnlyItsOwnPlaceOpens(t *testing.T) {
	keys := newKeys(t)
	sealer, both := newSealer(t, keys), newOpener(t, keys, "marketing", "advertising")
	none, other := newOpener(t, keys), newOpener(t, keys, "advertising")
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	pick := func(words ...string) string { return words[random.IntN(len(words))] }

	type value struct {
		text string
		s    Sealed
		k    DataKey
		b    Binding
	}
	var values []value
	for i := range 120 {
		if i%20 == 0 {
			sealer = renewed(t, sealer)
		}
		b := Binding{
			Purpose: pick("marketing", "advertising"), Field: pick("", "a", "ab", "email"), Subject: pick("", "a", "b", "ab"),
			Decision: pick("", "a", "ab"), Record: pick("", "b", "a"),
		}
		text := fmt.Sprint("value ", i)
		s, k, err := sealer.Seal(b, text)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value{text, s, k, b})
	}
	for _, v := range values {
		if got, err := both.Open(v.s, v.k, v.b); err != nil || got != v.text {
			t.Fatalf("it does not open: %v", err)
		}
		if _, err := none.Open(v.s, v.k, v.b); !errors.Is(err, ErrNoKey) {
			t.Errorf("without a private key: %v", err)
		}
		if _, err := other.Open(v.s, v.k, v.b); (err == nil) != (v.b.Purpose == "advertising") {
			t.Errorf("with the private key of advertising, sealed for %s: %v", v.b.Purpose, err)
		}
		for _, w := range values {
			if _, err := both.Open(v.s, v.k, w.b); (err == nil) != (v.b == w.b) {
				t.Errorf("sealed for %+v, opened for %+v: %v", v.b, w.b, err)
			}
			if _, err := both.Open(v.s, w.k, v.b); (err == nil) != (v.k.ID == w.k.ID) {
				t.Errorf("opened with another data key: %v", err)
			}
			if v.s.KeyID != w.s.KeyID {
				if _, err := both.Open(Sealed{w.s.KeyID, v.s.Ciphertext}, w.k, v.b); err == nil {
					t.Error("opened under the id of another data key")
				}
			}
		}
	}
}

// TestDeletedKeyRows deletes random rows of seal_keys: exactly what they sealed is
// beyond an opener that has all private keys.
func TestDeletedKeyRows(t *testing.T) {
	keys := newKeys(t)
	sealer, opener := newSealer(t, keys), newOpener(t, keys, "marketing", "advertising")
	rows := make(map[string]DataKey)
	type value struct {
		s Sealed
		b Binding
	}
	var values []value
	for i := range 200 {
		if i%9 == 0 {
			sealer = renewed(t, sealer)
		}
		b := Binding{Purpose: []string{"marketing", "advertising"}[i%2], Field: "email", Record: fmt.Sprint(i)}
		s, k, err := sealer.Seal(b, "x")
		if err != nil {
			t.Fatal(err)
		}
		rows[k.ID] = k
		values = append(values, value{s, b})
	}
	deleted := make(map[string]bool)
	for id := range rows { // in random order
		if len(deleted) < len(rows)/2 {
			delete(rows, id)
			deleted[id] = true
		}
	}
	opener.Forget()
	for _, v := range values {
		if _, err := opener.Open(v.s, rows[v.s.KeyID], v.b); (err == nil) == deleted[v.s.KeyID] {
			t.Errorf("the row is deleted: %v; opening it: %v", deleted[v.s.KeyID], err)
		}
		for _, other := range rows { // no other row does instead
			other.ID = v.s.KeyID
			if _, err := opener.Open(v.s, other, v.b); err == nil && deleted[v.s.KeyID] {
				t.Error("opened with the row of another key")
			}
		}
	}
}

// seals is how many values each goroutine of TestNoncesNeverRepeat seals.
func seals() int {
	if n, err := strconv.Atoi(os.Getenv("SLUIS_SEALS")); err == nil {
		return n
	}
	return 20_000
}

// nonces notes which counters of each data key were used.
type nonces struct {
	mu   sync.Mutex
	used map[string]*[(dataKeyUses+1)/32 + 1]uint32
}

// repeated notes a value's nonce, and tells whether it was noted before.
func (n *nonces) repeated(s Sealed) bool {
	n.mu.Lock()
	used := n.used[s.KeyID]
	if used == nil {
		used = new([(dataKeyUses+1)/32 + 1]uint32)
		n.used[s.KeyID] = used
	}
	n.mu.Unlock()
	counter := binary.BigEndian.Uint64(s.Ciphertext)
	bit := uint32(1) << (counter % 32)
	return atomic.OrUint32(&used[counter/32], bit)&bit != 0 // out of bounds if one key serves too long
}

// TestNoncesNeverRepeat seals from 16 goroutines at once, over changes of the data
// key by time and by use. SLUIS_SEALS=1000000 is its full size.
func TestNoncesNeverRepeat(t *testing.T) {
	sealer := newSealer(t, newKeys(t))
	each := seals()
	start, calls := time.Now(), atomic.Int64{}
	sealer.now = func() time.Time { // eight lives of a data key in all
		return start.Add(time.Duration(calls.Add(1)) * 8 * dataKeyLife / time.Duration(16*each))
	}
	seen := nonces{used: make(map[string]*[(dataKeyUses+1)/32 + 1]uint32)}
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for range each {
				s, k, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
				if err != nil || s.KeyID != k.ID || seen.repeated(s) {
					t.Errorf("a nonce repeated, or: %v", err)
					return
				}
			}
		})
	}
	wait.Wait()
	t.Logf("%d values under %d data keys", 16*each, len(seen.used))
	if len(seen.used) < 8 {
		t.Errorf("only %d data keys: their change was not exercised", len(seen.used))
	}
}

// TestDataKeyIsReplacedByUse brings a data key to its last value.
func TestDataKeyIsReplacedByUse(t *testing.T) {
	sealer := newSealer(t, newKeys(t))
	_, first, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
	if err != nil {
		t.Fatal(err)
	}
	sealer.current["marketing"].used.Store(dataKeyUses - 1)
	s, last, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
	if err != nil || last.ID != first.ID || binary.BigEndian.Uint64(s.Ciphertext) != dataKeyUses {
		t.Errorf("the last value: %v", err)
	}
	s, next, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
	if err != nil || next.ID == first.ID || binary.BigEndian.Uint64(s.Ciphertext) != 1 {
		t.Errorf("the value after the last: %v", err)
	}
}

// TestDataKeyIsForgotten lets time pass, with and without more to seal.
func TestDataKeyIsForgotten(t *testing.T) {
	keys := newKeys(t)
	synctest.Test(t, func(t *testing.T) {
		sealer := newSealer(t, keys)
		held := func() int {
			sealer.mu.Lock()
			defer sealer.mu.Unlock()
			return len(sealer.current)
		}
		_, first, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(dataKeyLife - time.Nanosecond) // of the bubble
		if _, again, err := sealer.Seal(Binding{Purpose: "marketing"}, "x"); err != nil || again.ID != first.ID || held() != 1 {
			t.Errorf("within its life: %v", err)
		}
		time.Sleep(time.Nanosecond) // of the bubble
		synctest.Wait()
		if held() != 0 {
			t.Error("a data key outlived its time in memory")
		}
		if _, next, err := sealer.Seal(Binding{Purpose: "marketing"}, "x"); err != nil || next.ID == first.ID {
			t.Errorf("after its life: %v", err)
		}
	})
}

// kills is how often TestNoncesOverKills kills.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("SLUIS_SEAL_KILLS")); err == nil {
		return n
	}
	return 8
}

// TestNoncesOverKills kills processes that seal with the same keys, two at a time,
// starts them anew, and compares all that they wrote.
func TestNoncesOverKills(t *testing.T) {
	if dir := os.Getenv("SLUIS_TEST_SEAL_DIR"); dir != "" {
		sealForever(t, Dir(dir))
		return
	}
	keys := newKeys(t)
	var mu sync.Mutex
	seen, dataKeys := make(map[string]bool), make(map[string]bool)
	read := func(lines *bufio.Scanner, n int) {
		for range n {
			if !lines.Scan() {
				t.Error("a process that seals ended by itself")
				return
			}
			mu.Lock()
			if seen[lines.Text()] {
				t.Error("a nonce repeated")
			}
			seen[lines.Text()] = true
			key, _, _ := strings.Cut(lines.Text(), " ")
			dataKeys[key] = true
			mu.Unlock()
		}
	}
	var wait sync.WaitGroup
	for round := range kills() {
		wait.Go(func() {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoncesOverKills$")
			child.Env = append(os.Environ(), "SLUIS_TEST_SEAL_DIR="+string(keys))
			out, err := child.StdoutPipe()
			if err != nil {
				t.Error(err)
				return
			}
			if err := child.Start(); err != nil {
				t.Error(err)
				return
			}
			read(bufio.NewScanner(out), 100+37*round%1000)
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = child.Wait() // it was killed
		})
		if round%2 == 1 {
			wait.Wait()
		}
	}
	wait.Wait()
	if len(dataKeys) < kills() {
		t.Errorf("%d processes had %d data keys", kills(), len(dataKeys))
	}
}

// sealForever writes the data key and the nonce of each value that it seals, a
// line at a time, until it is killed.
func sealForever(t *testing.T, keys Dir) {
	t.Helper()
	sealer := newSealer(t, keys)
	for range 4 {
		go func() {
			for {
				s, _, err := sealer.Seal(Binding{Purpose: "marketing"}, "x")
				if err == nil {
					_, err = fmt.Printf("%s %x\n", s.KeyID, s.Ciphertext[:8]) // to the parent
				}
				if err != nil {
					os.Exit(1) // the parent is gone
				}
			}
		}()
	}
	select {}
}

// TestRotation seals over a change of keys: what was sealed before opens, what
// comes after is sealed to the new key, and a destroyed version takes with it
// exactly its own.
func TestRotation(t *testing.T) {
	ctx, dir := t.Context(), newKeys(t)
	folder := OpenFolder(dir, nil)
	type value struct {
		s Sealed
		k DataKey
	}
	seal := func() value {
		t.Helper()
		s, k, err := newSealer(t, dir).Seal(Binding{Purpose: "marketing"}, "x")
		if err != nil {
			t.Fatal(err)
		}
		return value{s, k}
	}
	opens := func(v value) bool {
		_, err := newOpener(t, dir, "marketing").Open(v.s, v.k, Binding{Purpose: "marketing"})
		return err == nil
	}
	first := seal()
	before := newSealer(t, dir)
	if added, err := folder.RotatePurpose(ctx, "marketing"); err != nil || strings.Join(added, " ") != "purpose-marketing.private-2 purpose-marketing.public-2" {
		t.Fatalf("rotating: %v, %v", added, err)
	}
	second := seal()
	if !before.Same(before) || before.Same(newSealer(t, dir)) || before.Recipient("marketing") == newSealer(t, dir).Recipient("marketing") {
		t.Error("a sealer does not tell that a key is new")
	}
	if before.Recipient("advertising") != newSealer(t, dir).Recipient("advertising") {
		t.Error("the key of another purpose was rotated")
	}
	if name, err := folder.RotateSecret(ctx, KeyEdge); err != nil || name != "edge-2" {
		t.Fatalf("rotating the edge's key: %s, %v", name, err)
	}
	third := seal()
	if first.k.Recipient == second.k.Recipient || second.k.PSKID == third.k.PSKID || second.k.Recipient != third.k.Recipient {
		t.Error("the latest keys were not used")
	}
	for i, v := range []value{first, second, third} {
		if !opens(v) {
			t.Errorf("value %d does not open after the rotations", i)
		}
	}
	if err := folder.Remove(KeyPrivate("marketing")); err != nil {
		t.Fatal(err)
	}
	if opens(first) || !opens(second) || !opens(third) {
		t.Error("destroying version 1 of the key pair took another than its own")
	}
	if err := folder.Remove(KeyEdge); err != nil {
		t.Fatal(err)
	}
	if opens(second) || !opens(third) {
		t.Error("destroying version 1 of the edge's key took another than its own")
	}
	if added, err := folder.RotatePurpose(ctx, "marketing"); err != nil || added[0] != "purpose-marketing.private-3" {
		t.Errorf("the version after a destroyed one: %v, %v", added, err)
	}
}

func BenchmarkSealed(b *testing.B) {
	keys := newKeys(b)
	sealer, opener := newSealer(b, keys), newOpener(b, keys, "marketing")
	binding := Binding{
		Purpose: "marketing", Field: "email", Subject: "us1_0123456789abcdef0123456789abcdef",
		Decision: "0123456789abcdef", Record: VaultRecord("0123456789abcdef0123456789abcdef", time.Unix(1_800_000_000, 0)),
	}
	s, k, err := sealer.Seal(binding, "jane@example.com")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = sealer.Seal(binding, "jane@example.com")
		}
	})
	b.Run("seal/parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _, _ = sealer.Seal(binding, "jane@example.com")
			}
		})
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			_, _ = opener.Open(s, k, binding)
		}
	})
	b.Run("data_key", func(b *testing.B) {
		for b.Loop() {
			_, _ = sealer.newDataKey("marketing")
		}
	})
	b.Run("data_key/recover", func(b *testing.B) {
		for b.Loop() {
			opener.Forget()
			_, _ = opener.Open(s, k, binding)
		}
	})
	// What sealing each value by itself would cost.
	b.Run("reference/hpke_per_value", func(b *testing.B) {
		to := sealer.recipients["marketing"]
		for b.Loop() {
			sender, _ := suite.NewSender(to.key, nil)
			_, context, _ := sender.SetupPSK(rand.Reader, sealer.psk, []byte(sealer.pskID))
			_, _ = context.Seal(bytes.Repeat([]byte{1}, 16), nil)
		}
	})
}

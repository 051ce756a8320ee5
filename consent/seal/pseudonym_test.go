package seal

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	"github.com/cloudflare/circl/zk/dleq"
	"github.com/google/uuid"
)

// vectors is the part of RFC 9497's appendix that testdata has.
type vectors struct {
	Suites []struct {
		Mode    mode   `json:"mode"`
		Seed    string `json:"seed"`
		KeyInfo string `json:"keyInfo"`
		Secret  string `json:"skSm"`
		Public  string `json:"pkSm"`
		Vectors []struct {
			Input, Blind, BlindedElement, EvaluationElement, Output string
			Proof                                                   struct{ Proof, R string }
		} `json:"vectors"`
	} `json:"suites"`
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func scalar(t *testing.T, text string) group.Scalar {
	t.Helper()
	s, err := parseScalar(unhex(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVectorsOfRFC9497 takes our own steps through the published vectors of both
// modes: blind, evaluate, prove, verify, unblind, and the last hash of the RFC,
// which pseudonyms leave out.
func TestVectorsOfRFC9497(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc9497.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, suite := range v.Suites {
		derived, err := oprf.DeriveKey(oprf.SuiteRistretto255, oprf.Mode(suite.Mode), unhex(t, suite.Seed), unhex(t, suite.KeyInfo))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := derived.MarshalBinary(); err != nil || hex.EncodeToString(got) != suite.Secret {
			t.Errorf("mode %d: the derived key differs: %v", suite.Mode, err)
		}
		key := scalar(t, suite.Secret)
		public := group.Ristretto255.NewElement().MulGen(key)
		if got, _ := public.MarshalBinaryCompress(); suite.Public != "" && hex.EncodeToString(got) != suite.Public {
			t.Errorf("mode %d: the public key differs", suite.Mode)
		}
		for n, vector := range suite.Vectors {
			seen++
			inputs, blinds := strings.Split(vector.Input, ","), strings.Split(vector.Blind, ",")
			var blinded, evaluated []group.Element
			var gotBlinded, gotEvaluated, outputs []string
			for i, input := range inputs {
				point, err := blind(suite.Mode, unhex(t, input), scalar(t, blinds[i]))
				if err != nil {
					t.Fatal(err)
				}
				product := group.Ristretto255.NewElement().Mul(point, key)
				blinded, evaluated = append(blinded, point), append(evaluated, product)
				a, _ := point.MarshalBinaryCompress()
				b, _ := product.MarshalBinaryCompress()
				gotBlinded, gotEvaluated = append(gotBlinded, hex.EncodeToString(a)), append(gotEvaluated, hex.EncodeToString(b))
				element, err := (&oprfKey{}).unblind([]group.Element{product}, []group.Scalar{scalar(t, blinds[i])})
				if err != nil {
					t.Fatal(err)
				}
				outputs = append(outputs, hex.EncodeToString(lastHash(unhex(t, input), element[0])))
			}
			if strings.Join(gotBlinded, ",") != vector.BlindedElement || strings.Join(gotEvaluated, ",") != vector.EvaluationElement ||
				strings.Join(outputs, ",") != vector.Output {
				t.Errorf("mode %d, vector %d differs", suite.Mode, n+1)
			}
			if suite.Mode != verifiableMode {
				continue
			}
			proof, err := dleq.Prover{Params: proofs()}.ProveBatchWithRandomnessRFC9497(key, public, blinded, evaluated, scalar(t, vector.Proof.R))
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := proof.MarshalBinary(); hex.EncodeToString(got) != vector.Proof.Proof {
				t.Errorf("vector %d: the proof differs", n+1)
			}
			published := unhex(t, vector.Proof.Proof)
			if !proves(public, blinded, evaluated, published) {
				t.Errorf("vector %d: the published proof does not hold", n+1)
			}
			published[3] ^= 1
			if proves(public, blinded, evaluated, published) || proves(public, evaluated, blinded, unhex(t, vector.Proof.Proof)) {
				t.Errorf("vector %d: a false proof holds", n+1)
			}
		}
	}
	if seen != 5 {
		t.Errorf("%d vectors, want 5", seen)
	}
}

// lastHash is the end of Finalize in RFC 9497 §3.3.1.
func lastHash(input, element []byte) []byte {
	var b []byte
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(input))), input...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(element))), element...)
	sum := sha512.Sum512(append(b, "Finalize"...))
	return sum[:]
}

// TestElementIsCirclsOwn finishes our elements and compares with circl's
// FullEvaluate.
func TestElementIsCirclsOwn(t *testing.T) {
	p := newPseudonymizer(t, newKeys(t), "shop")
	text, err := p.oprf.scalar.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var key oprf.PrivateKey
	if err := key.UnmarshalBinary(oprf.SuiteRistretto255, text); err != nil {
		t.Fatal(err)
	}
	for _, input := range [][]byte{{0}, bytes.Repeat([]byte{0x5a}, 17), []byte("jane@example.com"), bytes.Repeat([]byte{1}, maxInput)} {
		want, err := oprf.NewServer(oprf.SuiteRistretto255, &key).FullEvaluate(input)
		if err != nil {
			t.Fatal(err)
		}
		element, err := p.oprf.evaluateHere(input)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(lastHash(input, element), want) {
			t.Errorf("an input of %d bytes differs", len(input))
		}
	}
}

// counting counts what it is asked.
type counting struct {
	Evaluator
	calls atomic.Int64
}

func (c *counting) Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error) {
	c.calls.Add(1)
	return c.Evaluator.Evaluate(ctx, version, blinded, proof)
}

// world is one workspace in all modes.
type world struct {
	local, remote, verified, split *Pseudonymizer
	remoteService, splitService    *counting
	edge                           Dir // the keyring of a collector in split mode
}

// newWorld gives each party the keys that are its own, and no others.
func newWorld(t testing.TB) *world {
	t.Helper()
	ctx, all := context.Background(), newKeys(t)
	give := func(name string) Dir {
		d := Dir(filepath.Join(t.TempDir(), name))
		if err := os.Mkdir(string(d), 0o700); err != nil {
			t.Fatal(err)
		}
		return d
	}
	move := func(to Dir, names ...string) {
		for _, name := range names {
			key, err := all.Key(ctx, name)
			if err == nil {
				err = to.Add(name, key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	collector, service, halfService, halfEdge := give("collector"), give("service"), give("half-service"), give("half-edge")
	move(collector, KeyTokens, KeyIDs)
	move(halfEdge, KeyTokens, KeyIDs)
	move(service, KeyPseudonym)
	edgeHalf, serviceHalf, err := SplitKey(ctx, all, 1)
	if err := errors.Join(err, halfEdge.Add(KeyPseudonymEdge, edgeHalf), halfService.Add(KeyPseudonymService, serviceHalf)); err != nil {
		t.Fatal(err)
	}
	holder := func(d Dir) *KeyHolder {
		h, err := NewKeyHolder(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	whole, half := holder(service), holder(halfService)
	w := &world{
		local: newPseudonymizer(t, all, "shop"), edge: halfEdge,
		remoteService: &counting{Evaluator: whole}, splitService: &counting{Evaluator: half},
	}
	served := func(keys Keyring, s Service) *Pseudonymizer {
		p, err := NewServedPseudonymizer(ctx, keys, "shop", "NL", s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	w.remote = served(collector, Service{Mode: Remote, Evaluator: w.remoteService})
	w.verified = served(collector, Service{Mode: Remote, Evaluator: w.remoteService, PublicKey: whole.PublicKey(1)})
	w.split = served(halfEdge, Service{Mode: Split, Evaluator: w.splitService, PublicKey: half.PublicKey(1)})
	return w
}

type identifier struct {
	kind  Kind
	value string
}

// randomIdentifier makes one of any kind, valid or not.
func randomIdentifier(r *rand.Rand) identifier {
	switch r.IntN(6) {
	case 0:
		return identifier{Email, fmt.Sprintf("  Person.%d@Example%d.COM", r.Uint32(), r.IntN(9))}
	case 1:
		return identifier{Phone, fmt.Sprintf("06%08d", r.IntN(1e8))}
	case 2:
		return identifier{AnonymousID, uuid.NewString()}
	case 3:
		return identifier{AnonymousID, fmt.Sprintf("visitor-%x", r.Uint64())}
	case 4:
		return identifier{GroupID, strings.Repeat("g", 1+r.IntN(1030))}
	default:
		return identifier{UserID, fmt.Sprint(r.Uint64())}
	}
}

// TestModesAgree makes the pseudonyms of random identifiers in each mode, and
// what is derived from them.
func TestModesAgree(t *testing.T) {
	n := 10_000
	if raceEnabled || testing.Short() {
		n = 1_000
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	r, w := rand.New(rand.NewPCG(seed, 1)), newWorld(t)
	ids := make([]identifier, n)
	for i := range ids {
		ids[i] = randomIdentifier(r)
	}
	const batch = 100
	public := w.split.oprf.public
	for i := 0; i < n; i += batch {
		group, tenth := ids[i:i+batch], i%(10*batch) == 0 // verification and digests cost more than all else
		modes := map[string]*Pseudonymizer{"remote": w.remote, "split": w.split}
		w.split.oprf.public = nil
		if tenth {
			modes["verified"], w.split.oprf.public = w.verified, public
		}
		want := makeAll(t, w.local, group, tenth)
		for name, p := range modes {
			if got := makeAll(t, p, group, tenth); !slices.Equal(got, want) {
				t.Fatalf("%s differs from local (seed %d)", name, seed)
			}
		}
	}
	if calls, most := w.remoteService.calls.Load(), int64(2*(n/batch+1)); calls > most || calls == 0 {
		t.Errorf("the service was asked %d times for %d batches", calls, n/batch)
	}
}

// makeAll is a batch as a collector makes it: the pseudonym of each and, if
// asked, all else that can be made of it.
func makeAll(t *testing.T, p *Pseudonymizer, ids []identifier, digests bool) []string {
	t.Helper()
	b := p.Batch()
	var made []string
	all := func() {
		made = made[:0]
		for _, id := range ids {
			p, err := b.Pseudonym(id.kind, id.value)
			made = append(made, p.Token(), hex.EncodeToString(p.Element()), fmt.Sprint(err))
			if !digests {
				continue
			}
			token, tokenErr := b.ValueToken(p, "field", id.kind, id.value)
			digest, digestErr := b.Digest("message_id", id.value)
			if tokenErr != nil || digestErr != nil {
				t.Fatal(tokenErr, digestErr)
			}
			made = append(made, token, digest)
		}
	}
	if all(); b.Lacks() {
		if err := b.Fetch(context.Background()); err != nil {
			t.Fatal(err)
		}
		if all(); b.Lacks() {
			t.Fatal("a batch lacks what it has fetched")
		}
	}
	for _, token := range made {
		if strings.Contains(token, standIn.token) {
			t.Fatal("a stand-in was left")
		}
	}
	return made
}

// TestServiceSeesNothing compares what the service is sent for the same
// identifiers, twice: all differs, and nothing is the hash of an identifier.
func TestServiceSeesNothing(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	record := func(blinded [][]byte) {
		for _, b := range blinded {
			if seen[string(b)] {
				t.Error("the service is sent the same twice")
			}
			seen[string(b)] = true
		}
	}
	w.remote.oprf.service = evaluatorFunc(func(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error) {
		record(blinded)
		return w.remoteService.Evaluate(ctx, version, blinded, proof)
	})
	for range 3 {
		w.remote.cache.Purge()
		if _, err := w.remote.Pseudonym(Email, "jane@example.com"); err != nil {
			t.Fatal(err)
		}
	}
	point, err := hashToGroup(baseMode, join("sluis/pid/v1", "shop", string(Email), normVersion, "jane@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := point.MarshalBinaryCompress()
	if len(seen) != 3 || seen[string(text)] {
		t.Errorf("%d elements were seen; unblinded: %t", len(seen), seen[string(text)])
	}
}

type evaluatorFunc func(context.Context, int, [][]byte, bool) (Evaluation, error)

func (f evaluatorFunc) Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error) {
	return f(ctx, version, blinded, proof)
}

// TestWrongAnswersAreRefused lets the service answer with another key, nonsense,
// too little, or not at all.
func TestWrongAnswersAreRefused(t *testing.T) {
	w := newWorld(t)
	other, err := NewKeyHolder(context.Background(), newKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	honest := w.verified.oprf.service
	away := &UnavailableError{Err: errors.New("refused")}
	identity := make([]byte, ElementSize)
	for name, test := range map[string]struct {
		service evaluatorFunc
		want    error // nil: any
	}{
		"another key": {other.Evaluate, ErrWrongKey},
		"no proof": {func(ctx context.Context, version int, blinded [][]byte, _ bool) (Evaluation, error) {
			return honest.Evaluate(ctx, version, blinded, false)
		}, ErrWrongKey},
		"the proof of others": {func(ctx context.Context, version int, blinded [][]byte, _ bool) (Evaluation, error) {
			answer, err := honest.Evaluate(ctx, version, blinded, true)
			answer.Elements[0] = blinded[0]
			return answer, err
		}, ErrWrongKey},
		"the identity": {func(_ context.Context, _ int, blinded [][]byte, _ bool) (Evaluation, error) {
			return Evaluation{Elements: slices.Repeat([][]byte{identity}, len(blinded))}, nil
		}, nil},
		"nothing": {func(context.Context, int, [][]byte, bool) (Evaluation, error) { return Evaluation{}, nil }, nil},
		"too many": {func(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error) {
			return honest.Evaluate(ctx, version, append(blinded, blinded[0]), proof)
		}, nil},
		"away": {func(context.Context, int, [][]byte, bool) (Evaluation, error) { return Evaluation{}, away }, away},
	} {
		w.verified.oprf.service = test.service
		got, err := w.verified.Pseudonym(Email, "jane@example.com")
		if err == nil || !got.IsZero() || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %q, %v", name, got.Token(), err)
		}
		if err != nil && strings.Contains(err.Error(), "jane") {
			t.Errorf("%s: the error repeats the identifier", name)
		}
	}
	w.verified.oprf.service = honest
	want, err := w.local.Pseudonym(Email, "jane@example.com")
	if got, err2 := w.verified.Pseudonym(Email, "jane@example.com"); err != nil || err2 != nil || got != want {
		t.Errorf("a refused answer was remembered: %v, %v", err, err2)
	}
}

func TestInputsAreBounded(t *testing.T) {
	w := newWorld(t)
	for _, p := range []*Pseudonymizer{w.local, w.remote, w.split} {
		for _, value := range []string{"", "  ", strings.Repeat("x", MaxIdentifier+1)} {
			for kind := range prefixes {
				if made, err := p.Pseudonym(kind, value); !errors.Is(err, ErrNotAnIdentifier) || !made.IsZero() {
					t.Errorf("%s of %d bytes: %v", kind, len(value), err)
				}
			}
		}
		if _, err := p.Pseudonym(UserID, strings.Repeat("x", MaxIdentifier)); err != nil {
			t.Errorf("an identifier of the greatest length: %v", err)
		}
	}
	for _, size := range []int{0, maxInput + 1, 1 << 17} {
		if _, err := hashToGroup(baseMode, make([]byte, size)); !errors.Is(err, errInput) {
			t.Errorf("hashing %d bytes: %v", size, err)
		}
	}
	if _, err := w.remoteService.Evaluate(context.Background(), 1, [][]byte{make([]byte, ElementSize)}, false); !errors.Is(err, ErrBadElement) {
		t.Errorf("the identity was evaluated: %v", err)
	}
	if _, err := w.remoteService.Evaluate(context.Background(), 7, nil, false); !errors.Is(err, ErrNoVersion) {
		t.Errorf("a version that is not there: %v", err)
	}
}

// TestKeyHolderIsConcurrent is for the race detector: circl computes a public key
// when it is first asked, and we do at the start.
func TestKeyHolderIsConcurrent(t *testing.T) {
	w := newWorld(t)
	done := make(chan error)
	for i := range 8 {
		go func() {
			_, err := w.verified.Pseudonym(UserID, fmt.Sprint(i))
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestModesNeedTheirKeys(t *testing.T) {
	ctx, w, empty := context.Background(), newWorld(t), Dir(t.TempDir())
	for name, test := range map[string]struct {
		keys    Keyring
		service Service
	}{
		"local without the key":         {w.edge, Service{}},
		"remote without a service":      {w.edge, Service{Mode: Remote}},
		"split without the half":        {newKeys(t), Service{Mode: Split, Evaluator: w.splitService}},
		"no keys":                       {empty, Service{Mode: Remote, Evaluator: w.remoteService}},
		"a public key that is none":     {w.edge, Service{Mode: Remote, Evaluator: w.remoteService, PublicKey: make([]byte, 32)}},
		"a mode that there is not, yet": {w.edge, Service{Mode: "threshold", Evaluator: w.remoteService}},
	} {
		if _, err := NewServedPseudonymizer(ctx, test.keys, "shop", "", test.service); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewKeyHolder(ctx, w.edge); !errors.Is(err, ErrNoKey) {
		t.Errorf("a service with the collector's half: %v", err)
	}
}

func BenchmarkPseudonym(b *testing.B) {
	w := newWorld(b)
	for _, mode := range []struct {
		name string
		p    *Pseudonymizer
	}{{"local", w.local}, {"remote", w.remote}, {"verified", w.verified}, {"split-verified", w.split}} {
		p := mode.p
		b.Run(mode.name+"/new", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_, _ = p.Pseudonym(UserID, fmt.Sprint("user-", i))
			}
		})
		b.Run(mode.name+"/known", func(b *testing.B) {
			for b.Loop() {
				_, _ = p.Pseudonym(UserID, "user-1")
			}
		})
		b.Run(mode.name+"/batch of 64", func(b *testing.B) {
			for i := 0; b.Loop(); i += 64 {
				batch := p.Batch()
				for j := range 64 {
					_, _ = batch.Pseudonym(UserID, fmt.Sprint("one of many ", i+j))
				}
				if batch.Lacks() {
					if err := batch.Fetch(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/64, "µs/id")
		})
	}
	b.Run("random id", func(b *testing.B) {
		for b.Loop() {
			_, _ = w.local.Pseudonym(AnonymousID, "0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10")
		}
	})
	b.Run("service/64", func(b *testing.B) {
		blinded := make([][]byte, 64)
		for i := range blinded {
			point, _ := blind(baseMode, []byte{byte(i)}, randomFactor())
			blinded[i], _ = point.MarshalBinaryCompress()
		}
		for b.Loop() {
			_, _ = w.remoteService.Evaluate(context.Background(), 1, blinded, false)
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/64, "µs/id")
	})
}

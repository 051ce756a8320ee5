package seal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudflare/circl/group"
)

// Evaluator is the service that holds a key of pseudonyms, as a collector sees
// it. It is given blinded elements, which tell it nothing of what they are made
// of, and answers with the product of each and its key.
//
// Evaluate may be called concurrently. Its error is an [*UnavailableError] if
// the same may be asked again later.
type Evaluator interface {
	Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error)
}

// MaxElements is how many elements an Evaluator is given at once, at most.
const MaxElements = 4096

// Evaluation is what the service answers: as many elements as it was given, in
// their order, and if it was asked for one a proof for all of them.
type Evaluation struct {
	Elements [][]byte
	Proof    []byte
}

// UnavailableError says that the service could not be asked. Nothing was made,
// and nothing may be kept of what needs it.
type UnavailableError struct {
	// RetryAfter is when it may be there again.
	RetryAfter time.Duration
	Err        error
}

func (e *UnavailableError) Error() string {
	return "the pseudonym service cannot be asked: " + e.Err.Error()
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// ErrWrongKey is returned where the service's proof does not hold for the public
// key that is pinned: it has another key, or something answers in its place.
var ErrWrongKey = errors.New("the pseudonym service cannot prove that it used the key whose public half is pinned as pseudonyms.public_key: " +
	"if its key was changed on purpose, pin the new one; if not, find out who answers in its place")

// wholeKey is the key of the OPRF of a version: that of the seed, or the
// product of both halves.
func wholeKey(ctx context.Context, keys Keyring, version int) (group.Scalar, error) {
	seed, err := keys.Key(ctx, Version(KeyPseudonym, version))
	if err == nil {
		key, err := deriveScalar(seed)
		if err != nil {
			return nil, fmt.Errorf("loading the pseudonym key: %w", err)
		}
		return key, nil
	}
	if !errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("loading the pseudonym key: %w", err)
	}
	edge, edgeErr := half(ctx, keys, Version(KeyPseudonymEdge, version))
	service, serviceErr := half(ctx, keys, Version(KeyPseudonymService, version))
	if edgeErr != nil || serviceErr != nil {
		return nil, fmt.Errorf("loading the pseudonym key: %w", err)
	}
	return group.Ristretto255.NewScalar().Mul(edge, service), nil
}

func half(ctx context.Context, keys Keyring, name string) (group.Scalar, error) {
	text, err := keys.Key(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("loading a half of the pseudonym key: %w", err)
	}
	scalar, err := parseScalar(text)
	if err != nil {
		return nil, fmt.Errorf("loading the key %s: %w", name, err)
	}
	return scalar, nil
}

// SplitKey makes the halves of a key: the collector's, and the service's. Their
// product is the key, so pseudonyms stay as they are; either half alone is a
// random number.
func SplitKey(ctx context.Context, keys Keyring, version int) (edge, service []byte, err error) {
	key, err := wholeKey(ctx, keys, version)
	if err != nil {
		return nil, nil, err
	}
	factor := randomFactor()
	rest := group.Ristretto255.NewScalar().Inv(factor)
	rest.Mul(rest, key)
	edge, err1 := factor.MarshalBinary()
	service, err2 := rest.MarshalBinary()
	return edge, service, errors.Join(err1, err2)
}

// KeyHolder is the Evaluator that has the keys: what the service is made of.
type KeyHolder struct {
	keys map[int]heldKey
}

// heldKey has its public half from the start: circl's PrivateKey computes it
// when it is first asked, without a lock.
type heldKey struct {
	scalar group.Scalar
	public group.Element
	text   []byte // of public
}

// NewKeyHolder loads all versions of the service's key: the half that is the
// service's, or else the whole.
func NewKeyHolder(ctx context.Context, keys Keyring) (*KeyHolder, error) {
	halves, err1 := Versions(ctx, keys, KeyPseudonymService)
	wholes, err2 := Versions(ctx, keys, KeyPseudonym)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("loading the keys of the pseudonym service: %w", err)
	}
	versions := append(halves, wholes...)
	if len(versions) == 0 {
		_, err := wholeKey(ctx, keys, 1) // tells where it was looked for
		return nil, err
	}
	h := &KeyHolder{keys: make(map[int]heldKey)}
	for _, version := range versions {
		scalar, err := half(ctx, keys, Version(KeyPseudonymService, version))
		if errors.Is(err, ErrNoKey) {
			scalar, err = wholeKey(ctx, keys, version)
		}
		if err != nil {
			return nil, err
		}
		public := group.Ristretto255.NewElement().MulGen(scalar)
		text, err := public.MarshalBinaryCompress()
		if err != nil {
			return nil, fmt.Errorf("loading the keys of the pseudonym service: %w", err)
		}
		h.keys[version] = heldKey{scalar, public, text}
	}
	return h, nil
}

// Versions lists the versions that are held, the oldest first.
func (h *KeyHolder) Versions() []int { return slices.Sorted(maps.Keys(h.keys)) }

// PublicKey is what collectors pin to verify the service; nil for a version that
// is not held.
func (h *KeyHolder) PublicKey(version int) []byte { return slices.Clone(h.keys[version].text) }

// Errors of KeyHolder.Evaluate, for [errors.Is]: both are the asker's fault.
var (
	ErrNoVersion  = errors.New("there is no key of this version")
	ErrBadElement = errors.New("a blinded element is not an element of the group")
)

// Evaluate implements Evaluator.
func (h *KeyHolder) Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (Evaluation, error) {
	key, ok := h.keys[version]
	if !ok {
		return Evaluation{}, ErrNoVersion
	}
	points, err := parseElements(blinded)
	if err != nil {
		return Evaluation{}, ErrBadElement
	}
	out := Evaluation{Elements: make([][]byte, len(points))}
	products := make([]group.Element, len(points))
	for i, point := range points {
		if err := ctx.Err(); err != nil {
			return Evaluation{}, err
		}
		products[i] = group.Ristretto255.NewElement().Mul(point, key.scalar)
		if out.Elements[i], err = products[i].MarshalBinaryCompress(); err != nil {
			return Evaluation{}, fmt.Errorf("evaluating: %w", err)
		}
	}
	if proof && len(points) > 0 {
		if out.Proof, err = prove(key.scalar, key.public, points, products); err != nil {
			return Evaluation{}, fmt.Errorf("proving an evaluation: %w", err)
		}
	}
	return out, nil
}

// oprfKey evaluates inputs to group elements, encoded, all of one request at
// once. It has the key, asks who has it, or has a half of it and asks.
type oprfKey struct {
	scalar  group.Scalar // the key, or the collector's half; nil if the service has all of it
	service Evaluator    // nil: the key is here
	version int
	public  group.Element // the service's; nil: what it says is not verified
}

func (k *oprfKey) isLocal() bool { return k.service == nil }

func (k *oprfKey) evaluate(ctx context.Context, inputs [][]byte) ([][]byte, error) {
	if k.isLocal() {
		elements := make([][]byte, len(inputs))
		for i, input := range inputs {
			var err error
			if elements[i], err = k.evaluateHere(input); err != nil {
				return nil, err
			}
		}
		return elements, nil
	}
	return k.ask(ctx, inputs)
}

// evaluateHere is k·HashToGroup(input).
func (k *oprfKey) evaluateHere(input []byte) ([]byte, error) {
	point, err := hashToGroup(baseMode, input)
	if err != nil {
		return nil, fmt.Errorf("evaluating a pseudonym: %w", err)
	}
	element, err := multiply(point, k.scalar)
	if err != nil {
		return nil, fmt.Errorf("evaluating a pseudonym: %w", err)
	}
	return element, nil
}

func (k *oprfKey) ask(ctx context.Context, inputs [][]byte) ([][]byte, error) {
	elements := make([][]byte, 0, len(inputs))
	for some := range slices.Chunk(inputs, MaxElements) {
		made, err := k.askOnce(ctx, some)
		if err != nil {
			return nil, err
		}
		elements = append(elements, made...)
	}
	return elements, nil
}

func (k *oprfKey) askOnce(ctx context.Context, inputs [][]byte) ([][]byte, error) {
	factors := make([]group.Scalar, len(inputs))
	points := make([]group.Element, len(inputs))
	blinded := make([][]byte, len(inputs))
	for i, input := range inputs {
		factors[i] = randomFactor()
		var err error
		if points[i], err = blind(baseMode, input, factors[i]); err != nil {
			return nil, fmt.Errorf("blinding an identifier: %w", err)
		}
		if blinded[i], err = points[i].MarshalBinaryCompress(); err != nil {
			return nil, fmt.Errorf("blinding an identifier: %w", err)
		}
	}
	answer, err := k.service.Evaluate(ctx, k.version, blinded, k.public != nil)
	if err != nil {
		return nil, err
	}
	products, err := parseElements(answer.Elements)
	if err != nil || len(products) != len(inputs) {
		return nil, errors.New("the pseudonym service answered with something else than the evaluated elements")
	}
	if k.public != nil && !proves(k.public, points, products, answer.Proof) {
		return nil, ErrWrongKey
	}
	return k.unblind(products, factors)
}

// unblind takes the factor away and, of a split key, adds the half that is here:
// one multiplication for both.
func (k *oprfKey) unblind(products []group.Element, factors []group.Scalar) ([][]byte, error) {
	elements := make([][]byte, len(products))
	for i, product := range products {
		factor := group.Ristretto255.NewScalar().Inv(factors[i])
		if k.scalar != nil {
			factor.Mul(factor, k.scalar)
		}
		var err error
		if elements[i], err = multiply(product, factor); err != nil {
			return nil, fmt.Errorf("finishing a pseudonym: %w", err)
		}
	}
	return elements, nil
}

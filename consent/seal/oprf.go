package seal

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/oprf"
	"github.com/cloudflare/circl/zk/dleq"
)

// The OPRF of RFC 9497 in the suite ristretto255-SHA512, whose operations take
// the same time for every key. What is here is the protocol up to its group
// element; package oprf of circl would go on to a last hash that contains the
// input, and so ties a pseudonym to one key for ever.

// mode is a mode of RFC 9497 §3.1.
type mode byte

// Inputs are hashed to the group in the base mode always, and proofs are those
// of the verifiable mode. A proof speaks of group elements alone, whatever they
// came from; so verification can be switched on without another pseudonym for
// everybody.
const (
	baseMode       mode = 0
	verifiableMode mode = 1
)

// tag is a domain separation tag (RFC 9497 §4.1).
func (m mode) tag(label string) []byte {
	return []byte(label + "OPRFV1-" + string([]byte{byte(m)}) + "-ristretto255-SHA512")
}

// Sizes of encodings, in bytes.
const (
	ElementSize = 32 // of a group element
	ProofSize   = 64 // of a proof for any number of elements
)

// maxInput bounds what is hashed to the group: an identifier and what is
// joined to it. circl would cut a length to 16 bits without a word.
const maxInput = MaxIdentifier + 256

var errInput = fmt.Errorf("an identifier must have 1 to %d bytes", MaxIdentifier)

// hashToGroup is HashToGroup of RFC 9497.
func hashToGroup(m mode, input []byte) (group.Element, error) {
	if len(input) == 0 || len(input) > maxInput {
		return nil, errInput
	}
	point := group.Ristretto255.HashToElement(input, m.tag("HashToGroup-"))
	if point.IsIdentity() { // RFC 9497 §3.3.1; cannot be made to happen
		return nil, errors.New("the input hashes to the identity")
	}
	return point, nil
}

// blind hides an input behind a random factor (Blind in RFC 9497).
func blind(m mode, input []byte, factor group.Scalar) (group.Element, error) {
	point, err := hashToGroup(m, input)
	if err != nil {
		return nil, err
	}
	return group.Ristretto255.NewElement().Mul(point, factor), nil
}

func randomFactor() group.Scalar { return group.Ristretto255.RandomNonZeroScalar(rand.Reader) }

// multiply is key·point, encoded: BlindEvaluate, and, with the inverse of the
// blinding factor, the first half of Finalize.
func multiply(point group.Element, key group.Scalar) ([]byte, error) {
	return group.Ristretto255.NewElement().Mul(point, key).MarshalBinaryCompress()
}

var errElement = errors.New("not a group element")

// parseElement accepts canonical encodings of anything but the identity.
func parseElement(text []byte) (group.Element, error) {
	point := group.Ristretto255.NewElement()
	if len(text) != ElementSize || point.UnmarshalBinary(text) != nil || point.IsIdentity() {
		return nil, errElement
	}
	return point, nil
}

func parseElements(texts [][]byte) ([]group.Element, error) {
	points := make([]group.Element, len(texts))
	for i, text := range texts {
		var err error
		if points[i], err = parseElement(text); err != nil {
			return nil, err
		}
	}
	return points, nil
}

// parseScalar accepts canonical encodings of anything but zero.
func parseScalar(text []byte) (group.Scalar, error) {
	scalar := group.Ristretto255.NewScalar()
	if err := scalar.UnmarshalBinary(text); err != nil || scalar.IsZero() {
		return nil, errors.New("not a key of the pseudonym service: it is damaged, or of another kind")
	}
	return scalar, nil
}

// deriveScalar makes a key from a seed of 32 bytes (DeriveKeyPair in RFC 9497
// §3.2.1).
func deriveScalar(seed []byte) (group.Scalar, error) {
	if len(seed) != 32 {
		return nil, fmt.Errorf("it has %d bytes, want 32", len(seed))
	}
	key, err := oprf.DeriveKey(oprf.SuiteRistretto255, oprf.BaseMode, seed, []byte("sluis/pseudonym/v1"))
	if err != nil {
		return nil, err
	}
	text, err := key.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return parseScalar(text)
}

// proofs is the setting of the proofs that evaluations were made with the key
// of a public key (RFC 9497 §2.2).
func proofs() dleq.Params {
	return dleq.Params{G: group.Ristretto255, H: crypto.SHA512, DST: verifiableMode.tag("")}
}

// prove proves, for all elements at once, that evaluated is key·blinded.
func prove(key group.Scalar, public group.Element, blinded, evaluated []group.Element) ([]byte, error) {
	proof, err := dleq.Prover{Params: proofs()}.ProveBatchRFC9497(key, public, blinded, evaluated, rand.Reader)
	if err != nil {
		return nil, err
	}
	return proof.MarshalBinary()
}

// proves tells whether a proof holds.
func proves(public group.Element, blinded, evaluated []group.Element, text []byte) bool {
	var proof dleq.Proof
	if err := proof.UnmarshalBinary(group.Ristretto255, text); err != nil {
		return false
	}
	return dleq.Verifier{Params: proofs()}.VerifyBatchRFC9497(public, blinded, evaluated, &proof)
}

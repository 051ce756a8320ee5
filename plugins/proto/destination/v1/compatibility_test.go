package destinationv1_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	destinationv1 "github.com/sluis-cdp/sluis/plugins/proto/destination/v1"
)

var (
	update   = flag.Bool("update", false, "add to the corpus what it lacks; what is there is never changed")
	released = flag.Bool("released", false, "take the protocol as it is for the released one")
)

// Plugins are built once and used for years, so what one version of the protocol
// has written every later one reads alike: the messages in testdata/corpus, each
// as bytes and as JSON that tells what they mean. Those with a number in their name
// are of before a field was added.
func TestCorpus(t *testing.T) {
	methods := destinationv1.File_destination_v1_destination_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		for _, message := range []protoreflect.MessageDescriptor{methods.Get(i).Input(), methods.Get(i).Output()} {
			path := filepath.Join("testdata", "corpus", string(message.Name())+".binpb")
			if _, err := os.Stat(path); err != nil && *update {
				addToCorpus(t, path, message)
			}
			// What is added to the protocol is to be added to the corpus.
			if !samePopulation(filled(message, 1), inCorpus(t, path, message)) {
				t.Errorf("%s lacks a field that the protocol has: rename it to %s.N.binpb, with N the next number, its JSON likewise, and add a new one with -update", path, message.Name())
			}
			earlier, err := filepath.Glob(filepath.Join("testdata", "corpus", string(message.Name())+".*.binpb"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range earlier {
				inCorpus(t, path, message)
			}
		}
	}
}

// inCorpus reads a message of the corpus and holds it against what it means.
func inCorpus(t *testing.T, path string, message protoreflect.MessageDescriptor) protoreflect.Message {
	t.Helper()
	encoded, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: add it with -update", err)
	}
	meaning, err := os.ReadFile(path[:len(path)-len("binpb")] + "json")
	if err != nil {
		t.Fatal(err)
	}
	got, want := dynamicpb.NewMessage(message), dynamicpb.NewMessage(message)
	if err := proto.Unmarshal(encoded, got); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if err := protojson.Unmarshal(meaning, want); err != nil {
		t.Fatalf("%s: what it means: %v", path, err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("%s is read as %v, and means %v", path, got, want)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil || !bytes.Equal(again, encoded) {
		t.Errorf("%s is written otherwise now, %v", path, err)
	}
	return got
}

// samePopulation reports whether b has each field that a has, at each depth.
func samePopulation(a, b protoreflect.Message) bool {
	same := true
	a.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		same = b.Has(f)
		if same && f.Message() != nil && !f.IsMap() {
			if f.IsList() {
				same = b.Get(f).List().Len() > 0 && samePopulation(v.List().Get(0).Message(), b.Get(f).List().Get(0).Message())
			} else {
				same = samePopulation(v.Message(), b.Get(f).Message())
			}
		}
		return same
	})
	return same
}

func addToCorpus(t *testing.T, path string, message protoreflect.MessageDescriptor) {
	t.Helper()
	full := filled(message, 1)
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	meaning, err := protojson.MarshalOptions{Multiline: true}.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{path: encoded, path[:len(path)-len("binpb")] + "json": append(meaning, '\n')} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// filled has a value in every field, each another than its neighbours'.
func filled(message protoreflect.MessageDescriptor, n int) *dynamicpb.Message {
	out := dynamicpb.NewMessage(message)
	fields := message.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
			out.Mutable(f).Map().Set(value(f.MapKey(), n+i).MapKey(), value(f.MapValue(), n+i))
		case f.IsList():
			list := out.Mutable(f).List()
			list.Append(value(f, n+i))
			list.Append(value(f, n+i+1))
		default:
			out.Set(f, value(f, n+i))
		}
	}
	return out
}

func value(f protoreflect.FieldDescriptor, n int) protoreflect.Value {
	switch f.Kind() { //nolint:exhaustive // the protocol has no others
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(1 + n%(f.Enum().Values().Len()-1)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(1_000_000_007 * n))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(1_000 + n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(1_000_000_009 * n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) + 0.1)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(n), 0xff})
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(filled(f.Message(), n))
	default:
		return protoreflect.ValueOfString(string(f.Name()) + " één " + string(rune('a'+n%26)))
	}
}

// The protocol only grows: whatever testdata/released.binpb has is here still,
// and means the same. `make proto` has Buf compare them by more rules.
func TestNothingIsBroken(t *testing.T) {
	const path = "testdata/released.binpb"
	now := destinationv1.File_destination_v1_destination_proto
	if *released {
		file := protodesc.ToFileDescriptorProto(now)
		file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{} // Buf takes no file without any
		image, err := proto.MarshalOptions{Deterministic: true}.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
		if err == nil {
			err = os.WriteFile(path, image, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(image, &set); err != nil {
		t.Fatal(err)
	}
	for _, problem := range broken(t, set.GetFile()[0], now) {
		t.Error(problem)
	}

	// And it would be seen.
	for name, change := range map[string]func(*descriptorpb.FileDescriptorProto){
		"a field of another type": func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType[1].Field[1].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		},
		"a field that is gone":    func(f *descriptorpb.FileDescriptorProto) { f.MessageType[1].Field[1].Number = proto.Int32(99) },
		"a field of another name": func(f *descriptorpb.FileDescriptorProto) { f.MessageType[1].Field[1].Name = new("revision") },
		"a value that is gone":    func(f *descriptorpb.FileDescriptorProto) { f.EnumType[0].Value[2].Number = proto.Int32(7) },
		"a method that is gone":   func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Method[0].Name = new("Explain") },
		"a method of another type": func(f *descriptorpb.FileDescriptorProto) {
			f.Service[0].Method[0].InputType = new(".sluis.destination.v1.CheckRequest")
		},
	} {
		spoiled := proto.CloneOf(set.GetFile()[0])
		change(spoiled)
		if len(broken(t, spoiled, now)) == 0 {
			t.Errorf("%s is not seen", name)
		}
	}
}

// broken lists what the old file has and the new one has not, or otherwise.
func broken(t *testing.T, old *descriptorpb.FileDescriptorProto, now protoreflect.FileDescriptor) (problems []string) {
	t.Helper()
	before, err := protodesc.NewFile(old, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	for i := range before.Messages().Len() {
		message := before.Messages().Get(i)
		for j := range message.Fields().Len() {
			was := message.Fields().Get(j)
			var is protoreflect.FieldDescriptor
			if same := now.Messages().ByName(message.Name()); same != nil {
				is = same.Fields().ByNumber(was.Number())
			}
			if is == nil || is.Name() != was.Name() || is.Kind() != was.Kind() || is.Cardinality() != was.Cardinality() || typeName(is) != typeName(was) {
				problems = append(problems, string(was.FullName())+" is gone, or has changed")
			}
		}
	}
	for i := range before.Enums().Len() {
		enum := before.Enums().Get(i)
		for j := range enum.Values().Len() {
			was := enum.Values().Get(j)
			same := now.Enums().ByName(enum.Name())
			if same == nil || same.Values().ByNumber(was.Number()) == nil || same.Values().ByNumber(was.Number()).Name() != was.Name() {
				problems = append(problems, string(was.FullName())+" is gone, or has changed")
			}
		}
	}
	methods := before.Services().Get(0).Methods()
	for i := range methods.Len() {
		was := methods.Get(i)
		is := now.Services().Get(0).Methods().ByName(was.Name())
		if is == nil || is.Input().FullName() != was.Input().FullName() || is.Output().FullName() != was.Output().FullName() {
			problems = append(problems, string(was.FullName())+" is gone, or has changed")
		}
	}
	return problems
}

func typeName(f protoreflect.FieldDescriptor) protoreflect.FullName {
	switch {
	case f.Message() != nil:
		return f.Message().FullName()
	case f.Enum() != nil:
		return f.Enum().FullName()
	}
	return ""
}

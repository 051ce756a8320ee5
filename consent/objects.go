package consent

import (
	"encoding/json"
	"fmt"
	"slices"
)

// FromConsentObject reads the object context.consent of an event, decoded from
// JSON: Segment's categoryPreferences and, beside them or alone, the strings tcf
// and gpp. Anything else than an object with one of them cannot be understood.
func (p *Policy) FromConsentObject(value any) []Signal {
	object, ok := value.(map[string]any)
	if !ok {
		return []Signal{unreadable(SegmentConsent, encoded(value))}
	}
	var signals []Signal
	for name, kind := range map[string]Kind{"tcf": TCF, "gpp": GPP} {
		switch text := object[name].(type) {
		case nil:
		case string:
			signals = append(signals, p.readString(kind, text)...)
		default:
			signals = append(signals, unreadable(kind, encoded(text)))
		}
	}
	preferences, ok := object["categoryPreferences"].(map[string]any)
	switch {
	case ok:
		signals = append(signals, p.FromCategories(preferences))
	case object["categoryPreferences"] != nil || len(signals) == 0:
		signals = append(signals, unreadable(SegmentConsent, encoded(value)))
	}
	return signals
}

// FromCategories reads the categoryPreferences object of Segment's consent
// management. A value that is not a boolean makes the signal unreadable.
// Categories that map to no purpose are passed over.
func (p *Policy) FromCategories(preferences map[string]any) Signal {
	s := newSignal(SegmentConsent)
	s.Evidence = evidenceOf(encoded(preferences))
	for category, value := range preferences {
		granted, ok := value.(bool)
		if !ok {
			s.Unreadable = true
			continue
		}
		p.hearWord(&s, category, granted)
	}
	return s
}

// FromConsentManagement reads the object context.consentManagement of
// RudderStack's SDKs, decoded from JSON: allowedConsentIds, deniedConsentIds and
// resolutionStrategy. Under the strategy "and", which is the default, a purpose
// that several ids map to needs all of them; under "or" one is enough. Anything
// else, and an id that is both allowed and denied, cannot be understood.
func (p *Policy) FromConsentManagement(value any) Signal {
	bad := unreadable(RudderStack, encoded(value))
	object, ok := value.(map[string]any)
	if !ok {
		return bad
	}
	allowed, okAllowed := texts(object["allowedConsentIds"])
	denied, okDenied := texts(object["deniedConsentIds"])
	strategy, okStrategy := object["resolutionStrategy"].(string)
	if object["resolutionStrategy"] == nil {
		strategy, okStrategy = "and", true
	}
	both := slices.ContainsFunc(allowed, func(id string) bool { return slices.Contains(denied, id) })
	if !okAllowed || !okDenied || !okStrategy || both || strategy != "and" && strategy != "or" || len(object) == 0 {
		return bad
	}
	s := newSignal(RudderStack)
	s.Evidence = bad.Evidence
	for _, id := range allowed {
		p.hearWord(&s, id, true)
	}
	for _, id := range denied {
		for _, purpose := range p.meaning(RudderStack, id) {
			if strategy == "and" || s.Verdicts[purpose] == Unknown {
				s.Verdicts[purpose] = Denied
			}
		}
	}
	return s
}

// texts is a list of texts; nothing is an empty one.
func texts(value any) (list []string, ok bool) {
	if value == nil {
		return nil, true
	}
	elements, ok := value.([]any)
	if !ok {
		return nil, false
	}
	for _, element := range elements {
		text, ok := element.(string)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

// FromChoice reads a choice made per purpose. An unknown purpose is an error,
// since silence would leave the person believing that it had been heard.
func (p *Policy) FromChoice(purposes map[string]bool) (Signal, error) {
	s := newSignal(Choice)
	for name, granted := range purposes {
		purpose := Purpose(name)
		if !p.Knows(purpose) {
			return Signal{}, fmt.Errorf("unknown purpose; known are %v", p.purposes)
		}
		s.add(purpose, granted)
	}
	return s, nil
}

// encoded is a decoded value as one text, the same for the same value.
func encoded(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%T", value) // nothing that JSON has comes here
	}
	return string(text)
}

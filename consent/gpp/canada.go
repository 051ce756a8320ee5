package gpp

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/consent/bits"
	"github.com/sluis-cdp/sluis/consent/tcf"
)

// Canada is the section of the TCF for Canada, version 1. Express consent is an
// act of the person; implied consent is what the person did not object to.
type Canada struct {
	Version           int
	Created           time.Time
	LastUpdated       time.Time
	CMPID             int
	CMPVersion        int
	ConsentScreen     int
	ConsentLanguage   string
	VendorListVersion int
	PolicyVersion     int

	UseNonStandardStacks bool
	SpecialFeatures      tcf.IDs // with express consent
	PurposesExpress      tcf.IDs
	PurposesImplied      tcf.IDs
	VendorsExpress       tcf.Vendors
	VendorsImplied       tcf.Vendors

	// DisclosedVendors are those that the person was told of; nil if the section
	// does not tell.
	DisclosedVendors *tcf.Vendors
	// Publisher is what was agreed to for the publisher itself; nil if the section
	// does not tell. Its Consents are express, its LegitimateInterests implied
	// consent.
	Publisher *tcf.Publisher
	// Restrictions are what the publisher demands of vendors.
	Restrictions tcf.Restrictions
}

func parseCanada(text string) (*Canada, error) {
	core, rest, more := strings.Cut(text, ".")
	c, err := parseCanadaCore(core)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, ".")
		if err := c.parseSegment(segment); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// parseCanadaCore reads ranges in Fibonacci coding, as the specification has
// them. Writers before @iabgpp/cmpapi 3.2.0 wrote ids of 16 bits instead, and
// nothing but what does not fit tells which it is.
func parseCanadaCore(text string) (*Canada, error) {
	c, err := readCanadaCore(text, true)
	if err == nil {
		return c, nil
	}
	if c, old := readCanadaCore(text, false); old == nil {
		return c, nil
	}
	return nil, err
}

func readCanadaCore(text string, fibonacci bool) (*Canada, error) {
	r := bits.NewReader(text)
	c := &Canada{Version: r.Uint(6)}
	if r.Err() == nil && c.Version != 1 {
		return nil, fmt.Errorf("version %d; known is 1", c.Version)
	}
	c.Created = tcf.ReadTime(r)
	c.LastUpdated = tcf.ReadTime(r)
	c.CMPID = r.Uint(12)
	c.CMPVersion = r.Uint(12)
	c.ConsentScreen = r.Uint(6)
	c.ConsentLanguage = r.Letters(2)
	c.VendorListVersion = r.Uint(12)
	c.PolicyVersion = r.Uint(6)
	c.UseNonStandardStacks = r.Bool()
	c.SpecialFeatures = r.Field(12)
	c.PurposesExpress = r.Field(24)
	c.PurposesImplied = r.Field(24)
	c.VendorsExpress = readVendors(r, fibonacci)
	c.VendorsImplied = readVendors(r, fibonacci)
	c.Restrictions = tcf.ReadRestrictions(r, fibonacci)
	return c, r.Close()
}

func readVendors(r *bits.Reader, fibonacci bool) tcf.Vendors {
	if fibonacci {
		return r.FibonacciSet()
	}
	return r.Set()
}

func (c *Canada) parseSegment(text string) error {
	r := bits.NewReader(text)
	switch kind := r.Uint(3); {
	case r.Err() != nil:
		return fmt.Errorf("segment: %w", r.Err())
	case kind == 1 && c.DisclosedVendors == nil:
		vendors := r.FibonacciSet()
		if r.Close() != nil {
			r = bits.NewReader(text) // from its type on, with ids of 16 bits
			_, vendors = r.Uint(3), r.Set()
		}
		c.DisclosedVendors = &vendors
		return r.Close()
	case kind == 3 && c.Publisher == nil:
		c.Publisher = tcf.ReadPublisher(r)
		return r.Close()
	case kind == 1 || kind == 3:
		return errors.New("segment comes twice")
	default:
		return fmt.Errorf("segment of unknown type %d", kind)
	}
}

package jinja

import (
	"strings"
	"unicode"
)

// testArgs are how many arguments each test takes.
var testArgs = map[string]int{
	"defined": 0, "undefined": 0, "none": 0, "true": 0, "false": 0, "boolean": 0, "integer": 0, "float": 0, "number": 0, "string": 0,
	"mapping": 0, "iterable": 0, "sequence": 0, "callable": 0, "escaped": 0, "odd": 0, "even": 0, "lower": 0, "upper": 0,
	"filter": 0, "test": 0, "divisibleby": 1, "sameas": 1, "in": 1,
	"eq": 1, "equalto": 1, "==": 1, "ne": 1, "!=": 1, "lt": 1, "lessthan": 1, "<": 1, "le": 1, "<=": 1, "gt": 1, "greaterthan": 1, ">": 1, "ge": 1, ">=": 1,
}

var testOperators = map[string]string{
	"eq": "==", "equalto": "==", "==": "==", "ne": "!=", "!=": "!=", "lt": "<", "lessthan": "<", "<": "<", "le": "<=", "<=": "<=",
	"gt": ">", "greaterthan": ">", ">": ">", "ge": ">=", ">=": ">=", "in": "in",
}

func knownTest(name string) error {
	if _, ok := testArgs[name]; !ok {
		return errorf("there is no test %q", name)
	}
	return nil
}

// test tells whether v passes a test.
func (r *run) test(name string, v any, args []any) (any, error) {
	if len(args) != testArgs[name] {
		return nil, errorf("the test %s takes %d arguments, and was given %d", name, testArgs[name], len(args))
	}
	if op, ok := testOperators[name]; ok {
		return related(op, v, args[0])
	}
	switch name {
	case "defined", "undefined":
		_, is := v.(*undefined)
		return is == (name == "undefined"), nil
	case "none":
		return v == nil, nil
	case "true":
		return v == true, nil
	case "false":
		return v == false, nil
	case "filter", "test":
		text, ok := v.(string)
		if !ok {
			return nil, errorf("the name of a filter or test is a text")
		}
		if name == "filter" {
			return knownFilter(text) == nil || refusedFilters[text] != "", nil
		}
		return knownTest(text) == nil, nil
	case "odd", "even", "divisibleby":
		return divisible(name, v, args)
	case "sameas":
		return sameAs(v, args[0])
	case "lower", "upper":
		text, err := soft(v)
		if name == "lower" {
			return isCase(text, unicode.IsLower), err
		}
		return isCase(text, unicode.IsUpper), err
	}
	return typeTest(name, v)
}

func divisible(name string, v any, args []any) (any, error) {
	by, want := any(2), 0
	switch name {
	case "odd":
		want = 1
	case "divisibleby":
		by = args[0]
	}
	if _, ok := v.(string); ok {
		return nil, errorf("a text is not divisible")
	}
	rest, err := binary("%", v, by)
	if err != nil {
		return nil, err
	}
	return equal(rest, want, new(walk))
}

// sameAs tells whether two are one. Of texts and numbers that depends on Python's memory.
func sameAs(a, b any) (any, error) {
	switch a := a.(type) {
	case nil, bool:
		return a == b, nil
	case *List, *Dict, *Set, *namespace, *Object, *macroValue:
		return a == b, nil
	}
	return nil, errorf("whether a %s is the same as another is not told: compare with ==", typeName(a))
}

func typeTest(name string, v any) (any, error) {
	is := func(names ...string) bool {
		for _, n := range names {
			if typeName(v) == n {
				return true
			}
		}
		return false
	}
	if _, ok := v.(*Object); ok && (name == "iterable" || name == "sequence" || name == "mapping") {
		return nil, errorf("what this object is made of is dbt's own: ask for its attributes")
	}
	switch name {
	case "boolean":
		return is("bool"), nil
	case "integer":
		return is("int"), nil
	case "float":
		return is("float"), nil
	case "number":
		return is("int", "float", "bool"), nil
	case "string":
		return is("str", "Markup"), nil
	case "mapping":
		return is("dict"), nil
	case "escaped":
		return is("Markup"), nil
	case "iterable":
		return is("str", "Markup", "list", "tuple", "dict", "set", "range", "undefined value", "generator", "zip", "list_reverseiterator", "reversed") ||
			strings.HasPrefix(typeName(v), "dict_"), nil
	case "sequence":
		if is("set", "undefined value", "namespace", "macro", "method") || strings.HasPrefix(typeName(v), "dict_") {
			return nil, errorf("whether a %s is a sequence is not told: make a list of it", typeName(v))
		}
		return is("str", "Markup", "list", "tuple", "dict", "range"), nil
	}
	switch v := v.(type) { // callable
	case *Object:
		return v.Call != nil, nil
	case *macroValue, *method, *undefined:
		if _, ok := v.(*undefined); ok {
			return nil, errorf("whether an undefined value can be called is not told: ask whether it is defined")
		}
		return true, nil
	}
	return false, nil
}

package jinja

import "slices"

// builtins are the functions that all templates have: Jinja's, and those of
// dbt's that need the engine's values.
var builtins = map[string]Func{
	"range":     rangeOf,
	"dict":      func(args []any, named *Dict) (any, error) { return dictOf(args, named) },
	"namespace": namespaceOf,
	"joiner":    joiner,
	"cycler":    cycler,
	"return":    giveBack,
	"zip":       zip,
	"set":       setOf,
}

func rangeOf(args []any, named *Dict) (any, error) {
	bounds := [3]int{0, 0, 1}
	for i, arg := range args {
		n, ok := integer(arg)
		if !ok || i > 2 {
			return nil, errorf("range takes one to three ints")
		}
		bounds[i] = n
	}
	v := rangeValue{bounds[0], bounds[1], bounds[2]}
	if len(args) == 1 {
		v = rangeValue{0, bounds[0], 1}
	}
	if len(args) == 0 || named.Len() > 0 || v.step == 0 {
		return nil, errorf("range takes one to three ints, the third not zero")
	}
	const far = 1 << 40
	if max(abs(v.start), abs(v.stop), abs(v.step)) > far || v.len() > maxRange {
		return nil, errorf("a range has %d elements at most", maxRange)
	}
	return v, nil
}

func namespaceOf(args []any, named *Dict) (any, error) {
	d, err := dictOf(args, named)
	return &namespace{d}, err
}

// joiner gives a separator, but for the first time.
func joiner(args []any, named *Dict) (any, error) {
	a, err := bindArgs("joiner", []string{"sep?"}, args, named)
	if err != nil {
		return nil, err
	}
	used := false
	return &Object{Call: positional("joiner", 0, 0, func([]any) (any, error) {
		switch {
		case !used:
			used = true
			return "", nil
		case !given(a[0]):
			return ", ", nil
		}
		return a[0], nil
	})}, nil
}

func cycler(args []any, named *Dict) (any, error) {
	if len(args) == 0 || named.Len() > 0 {
		return nil, errorf("cycler takes the values to go through")
	}
	at := 0
	attributes := map[string]any{
		"next": positional("next", 0, 0, func([]any) (any, error) {
			at++
			return args[(at-1)%len(args)], nil
		}),
		"reset": positional("reset", 0, 0, func([]any) (any, error) { at = 0; return nil, nil }),
	}
	return &Object{Attributes: attributes, Missing: func(name string) error {
		return errorf("a cycler has next() and reset(), and no %s here", name)
	}}, nil
}

// zip is Python's, as dbt has it.
func zip(args []any, named *Dict) (any, error) {
	if otherwise, ok := named.Get("default"); named.Len() > 1 || named.Len() == 1 && !ok {
		return nil, errorf("zip takes lists, and a default")
	} else if ok {
		for _, arg := range args {
			if _, err := each(arg, true); err != nil {
				return otherwise, nil //nolint:nilerr // that is what the default is for
			}
		}
	}
	columns := make([][]any, len(args))
	shortest := -1
	for i, arg := range args {
		var err error
		if columns[i], err = elements(arg); err != nil {
			return nil, err
		}
		if shortest < 0 || len(columns[i]) < shortest {
			shortest = len(columns[i])
		}
	}
	rows := []any{}
	for i := range max(shortest, 0) {
		row := make(Tuple, len(columns))
		for c := range columns {
			row[c] = columns[c][i]
		}
		rows = append(rows, row)
	}
	return &iterator{"zip", rows}, nil
}

func setOf(args []any, named *Dict) (any, error) {
	if len(args) > 1 && named.Len() == 0 && len(args) == 2 {
		if _, err := each(args[0], false); err != nil {
			return args[1], nil //nolint:nilerr // that is what the default is for
		}
		args = args[:1]
	}
	if len(args) != 1 || named.Len() > 0 {
		return nil, errorf("set takes a list, and a default")
	}
	items, err := collect(args[0], false)
	if err != nil {
		return nil, err
	}
	s := newSet()
	if slices.ContainsFunc(items, IsUndefined) {
		return nil, errorf("an undefined value cannot be in a set")
	}
	return s, s.addAll(items)
}

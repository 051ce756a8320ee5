package storagetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
)

// store is a log of everything that happened, one JSON object a line, and what
// follows from it. A process killed while writing leaves a line without its end,
// which never happened.
type store struct {
	log     *os.File
	tables  map[string]*tableState
	streams map[string]*streamState
	order   []string // the streams, oldest first

	jobs     map[string]*jobState
	jobOrder []string
}

type tableState struct {
	schema *storagepb.TableSchema
	rows   []map[string]any
}

type streamState struct {
	table     string
	rows      int64
	finalized bool
}

type jobState struct {
	Job
	table, location, lines, message string
	rows                            int
}

type kind string

const (
	tableMade       kind = "table"
	streamMade      kind = "stream"
	rowsAppended    kind = "append"
	streamFinalized kind = "finalize"
	streamExpired   kind = "expire"
	rowsLost        kind = "lose"
	jobMade         kind = "job"
	jobEnded        kind = "job ended"
)

type entry struct {
	Kind   kind                   `json:"kind"`
	Name   string                 `json:"name"` // of the table, stream or job
	Table  string                 `json:"table,omitempty"`
	Schema *storagepb.TableSchema `json:"schema,omitempty"`
	Rows   []map[string]any       `json:"rows,omitempty"`
	N      int                    `json:"n,omitempty"`

	// Of jobs.
	Location string `json:"location,omitempty"`
	Lines    string `json:"lines,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
}

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &store{log: log, tables: make(map[string]*tableState), streams: make(map[string]*streamState), jobs: make(map[string]*jobState)}
	var end int64
	in := bufio.NewReader(log)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		var e entry
		if err == nil {
			decoder := json.NewDecoder(bytes.NewReader(line))
			decoder.UseNumber()
			err = decoder.Decode(&e)
		}
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
		s.apply(e)
		end += int64(len(line))
	}
	_, err = log.Seek(end, io.SeekStart)
	if err := errors.Join(err, log.Truncate(end)); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return s, nil
}

// write makes an entry happen. It is in the page cache on return, which outlives
// the process.
func (s *store) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := s.log.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing the log: %w", err)
	}
	s.apply(e)
	return nil
}

func (s *store) apply(e entry) {
	stream := s.streams[e.Name]
	switch e.Kind {
	case tableMade:
		if t := s.tables[e.Name]; t != nil {
			t.schema = e.Schema
		} else {
			s.tables[e.Name] = &tableState{schema: e.Schema}
		}
	case streamMade:
		s.streams[e.Name] = &streamState{table: e.Table}
		s.order = append(s.order, e.Name)
	case rowsAppended:
		t := s.tables[stream.table]
		t.rows = append(t.rows, e.Rows...)
		stream.rows += int64(len(e.Rows))
	case streamFinalized:
		stream.finalized = true
	case streamExpired:
		delete(s.streams, e.Name)
	case rowsLost:
		t := s.tables[stream.table]
		t.rows = t.rows[:len(t.rows)-e.N]
		stream.rows -= int64(e.N)
	case jobMade:
		s.jobs[e.Name] = &jobState{Job: Job{ID: e.Name}, table: e.Table, location: e.Location, lines: e.Lines}
		s.jobOrder = append(s.jobOrder, e.Name)
	case jobEnded:
		j := s.jobs[e.Name]
		j.Done, j.Reason, j.message, j.rows, j.lines = true, e.Reason, e.Message, len(e.Rows), ""
		if e.Reason == "" {
			t := s.tables[j.table]
			t.rows = append(t.rows, e.Rows...)
		}
	}
}

func (s *store) close() error { return s.log.Close() }

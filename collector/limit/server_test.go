package limit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const largest = 500 << 10

// serve runs a bounded server on a real socket. Its handler reads the body, and
// then does as it is told; what it refuses it answers.
func serve(t *testing.T, c Config, then func(w http.ResponseWriter, text string)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := Read(r, largest)
		if refused, ok := errors.AsType[*Refusal](err); ok {
			if s := refused.Seconds(); s != "" {
				w.Header().Set("Retry-After", s)
			}
			w.WriteHeader(refused.Status)
			fmt.Fprint(w, refused.Code)
			return
		}
		if err != nil {
			t.Errorf("%v is no refusal", err)
		}
		if then != nil {
			then(w, text)
		}
	})}
	c.Apply(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(c.Listener(l, func(net.Addr) bool { return false }))
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func post(t *testing.T, address string, body io.Reader, headers ...string) (status int, code, retry string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header.Get("Retry-After")
}

// drip sends a byte now and then until the other side has enough, and returns
// what it said.
func drip(t *testing.T, conn net.Conn, before string) string {
	t.Helper()
	if _, err := io.WriteString(conn, before); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(conn) // a connection that is reset has said what it has
		said <- string(text)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case text := <-said:
			return text
		case <-tick.C:
			_, _ = io.WriteString(conn, "a") // fails once the other side has closed
		}
	}
}

// TestSlowClients: whoever drips is answered or cut off, however long he could
// go on.
func TestSlowClients(t *testing.T) {
	address := serve(t, Config{Time: time.Second}, nil)
	if said := drip(t, dial(t, address), "POST / HTTP/1.1\r\nHost: x\r\nX-A: "); strings.Contains(said, "200 OK") {
		t.Errorf("a header that never ends: %q", said)
	}
	said := drip(t, dial(t, address), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
	if !strings.HasPrefix(said, "HTTP/1.1 408 ") || !strings.Contains(said, "too_slow") || !strings.Contains(said, "Retry-After: 1\r\n") || !strings.Contains(said, "Connection: close\r\n") {
		t.Errorf("a body that never ends: %q", said)
	}
	said = drip(t, dial(t, address), "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nfffff\r\n")
	if !strings.HasPrefix(said, "HTTP/1.1 408 ") {
		t.Errorf("chunks that never end: %q", said)
	}
}

// TestSlowReader: a client that sends and does not read its answers is cut off.
func TestSlowReader(t *testing.T) {
	answer := bytes.Repeat([]byte("x"), 1<<20)
	address := serve(t, Config{Time: time.Second}, func(w http.ResponseWriter, _ string) { _, _ = w.Write(answer) })
	conn := dial(t, address)
	for {
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			return // the server has closed it
		}
	}
}

// TestHeaderFlood: no more of a header is held than is allowed.
func TestHeaderFlood(t *testing.T) {
	address := serve(t, Config{}, nil)
	conn := dial(t, address)
	allocated := allocations(func() {
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n")
		for i := range 200_000 { // some 4 MB
			if _, err := fmt.Fprintf(conn, "X-%06d: aaaaaaaa\r\n", i); err != nil {
				break
			}
		}
		text, _ := io.ReadAll(conn)
		if len(text) > 0 && !bytes.Contains(text, []byte(" 431 ")) {
			t.Errorf("%q", text)
		}
	})
	if allocated > 16<<20 { // most of it the test's own
		t.Errorf("%d bytes were allocated", allocated)
	}
}

// allocations is how many bytes are allocated while do runs.
func allocations(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// zip compresses as well as gzip can.
func zip(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBombs: of a body that unpacks to a gigabyte little more is held than of
// any other.
func TestBombs(t *testing.T) {
	address := serve(t, Config{}, nil)
	const part = 8 << 20
	bomb := bytes.Repeat(zip(t, bytes.Repeat([]byte{' '}, part)), 128) // gzip allows several in a row
	if len(bomb) > 2<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	for name, body := range map[string][]byte{
		"1 GB of 1 MB":       bomb,
		"8 MB of 8 KB":       bomb[:len(bomb)/128],
		"nothing, often":     bytes.Repeat(zip(t, nil), 100_000),
		"nothing, too often": append(bytes.Repeat(zip(t, nil), 100_000), zip(t, []byte("{}"))...),
	} {
		var status int
		var code string
		allocated := allocations(func() { status, code, _ = post(t, address, bytes.NewReader(body), "Content-Encoding", "gzip") })
		if status != 400 || code != "too_large" {
			t.Errorf("%s: %d %s", name, status, code)
		}
		if allocated > 8*largest {
			t.Errorf("%s: %d bytes were allocated", name, allocated)
		}
	}
	// What a client says of the length is not allocated before it comes.
	conn := dial(t, address)
	allocated := allocations(func() {
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(conn); !bytes.Contains(text, []byte("unreadable_body")) {
			t.Errorf("%q", text)
		}
	})
	if allocated > largest {
		t.Errorf("for a length that was only said %d bytes were allocated", allocated)
	}
}

// TestSizes: a body may be exactly as large as it may.
func TestSizes(t *testing.T) {
	address := serve(t, Config{}, func(w http.ResponseWriter, text string) { fmt.Fprint(w, len(text)) })
	whole := bytes.Repeat([]byte("a"), largest)
	for _, test := range []struct {
		name     string
		body     []byte
		encoding string
		status   int
		answer   string
	}{
		{"empty", nil, "", 200, "0"},
		{"whole", whole, "", 200, fmt.Sprint(largest)},
		{"one more", append(bytes.Clone(whole), 'a'), "", 400, "too_large"},
		{"whole, compressed", zip(t, whole), "gzip", 200, fmt.Sprint(largest)},
		{"one more, compressed", zip(t, append(bytes.Clone(whole), 'a')), "GZIP", 400, "too_large"},
		{"no gzip", []byte("{}"), "gzip", 400, "invalid_gzip"},
		{"half of gzip", zip(t, whole)[:100], "gzip", 400, "unreadable_body"},
		{"no gzip after one that is", []byte("{}"), "gzip", 400, "invalid_gzip"},
		{"gzip after one that is not", zip(t, []byte("{}")), "gzip", 200, "2"},
	} {
		if status, answer, _ := post(t, address, bytes.NewReader(test.body), "Content-Encoding", test.encoding); status != test.status || answer != test.answer {
			t.Errorf("%s: %d %s, want %d %s", test.name, status, answer, test.status, test.answer)
		}
	}
}

// TestAdmission: what is too much at once is told to come again, and what is
// done is forgotten.
func TestAdmission(t *testing.T) {
	for name, config := range map[string]Config{"requests": {Requests: 4}, "bytes": {Bytes: 4 * 3000}, "bytes, unpacked": {Bytes: 4 * 3000}} {
		t.Run(name, func(t *testing.T) {
			text, encoding := bytes.Repeat([]byte("a"), 2900), ""
			if name == "bytes, unpacked" {
				text, encoding = zip(t, text), "gzip"
			}
			working, end := make(chan struct{}), make(chan struct{})
			address := serve(t, config, func(w http.ResponseWriter, _ string) {
				working <- struct{}{}
				<-end
				fmt.Fprint(w, "done")
			})
			send := func() (int, string, string) {
				return post(t, address, bytes.NewReader(text), "Content-Encoding", encoding)
			}
			for range 3 {
				var clients sync.WaitGroup
				for range 4 {
					clients.Go(func() {
						if status, answer, _ := send(); status != 200 || answer != "done" {
							t.Errorf("one of four: %d %s", status, answer)
						}
					})
				}
				for range 4 {
					<-working
				}
				if status, code, retry := send(); status != 503 || code != "busy" || retry != "1" {
					t.Errorf("the fifth: %d %s, again after %q", status, code, retry)
				}
				for range 4 {
					end <- struct{}{}
				}
				clients.Wait()
			}
		})
	}
}

// TestBusyAnswersAtOnce: who is told to come again need not send the rest.
func TestBusyAnswersAtOnce(t *testing.T) {
	address := serve(t, Config{Bytes: 1000, Time: time.Hour}, nil)
	conn := dial(t, address)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // else it would wait for an hour
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"+strings.Repeat(" ", 2000)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "1" || !answer.Close {
		t.Errorf("%v %v", answer, err)
	}
}

// TestConnections: one more than may be open waits until one is closed.
func TestConnections(t *testing.T) {
	address := serve(t, Config{Connections: 2}, func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "done") })
	first, second, third := dial(t, address), dial(t, address), dial(t, address)
	ask := func(conn net.Conn) {
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
	}
	listen := func(conn net.Conn) {
		t.Helper()
		if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", answer, err)
		}
	}
	ask(first)
	listen(first)
	ask(second)
	listen(second)
	ask(third) // into its socket: nobody reads it
	answered := make(chan struct{})
	go func() {
		listen(third)
		close(answered)
	}()
	ask(second)
	listen(second) // the server still works
	select {
	case <-answered:
		t.Fatal("a third connection was served beside two")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-answered
}

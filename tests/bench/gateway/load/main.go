// Load client for OpenAI/Anthropic-compatible endpoints (raw HTTP/1.1, keep-alive).
//
//	-mode json    latency of non-stream requests
//	-mode stream  TTFT, chunks/s, whole-stream time, and the forwarding lag of each chunk
//	              (the mock writes its send time in ns into each content delta)
//	-n N          stop after N requests (the duration still bounds the run)
//	-rate R       open loop: R requests/s over all connections; latency counts from the scheduled
//	              time when the gateway is behind (no coordinated omission). 0 = closed loop.
//
// Prints one JSON object. Exit status 1 means that no request succeeded.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type conn struct {
	c net.Conn
	r *bufio.Reader
}

type stats struct {
	lat, ttft, lag []int64
	chunks, errs   int64
	noUsage, reqs  int64
	status         map[int]int64
	firstErr       string
}

var (
	addr    = flag.String("addr", "127.0.0.1:9001", "host:port")
	path    = flag.String("path", "/v1/chat/completions", "path")
	mode    = flag.String("mode", "json", "json|stream")
	nc      = flag.Int("c", 1, "connections")
	dur     = flag.Duration("d", 5*time.Second, "duration")
	total   = flag.Int64("n", 0, "stop after so many requests (0 = after the duration)")
	rate    = flag.Float64("rate", 0, "open-loop requests/s (0 = closed loop)")
	model   = flag.String("model", "mock", "model name")
	size    = flag.Int("size", 1024, "request body bytes")
	headers = flag.String("H", "", "extra headers, separated by |")
	usage   = flag.Bool("usage", true, "ask include_usage in streams")
	key     = flag.String("key", "sk-mock", "API key (Authorization: Bearer)")
	lagOn   = flag.Bool("lag", true, "compute chunk lag from the time in the content")
)

func body() []byte {
	f := func(pad string) string {
		s := `{"model":"` + *model + `","max_tokens":256,"temperature":0.5,"messages":[{"role":"user","content":"` + pad + `"}]`
		if *mode == "stream" {
			s += `,"stream":true`
			if *usage && !strings.Contains(*path, "messages") {
				s += `,"stream_options":{"include_usage":true}`
			}
		}
		return s + "}"
	}
	n := *size - len(f(""))
	if n < 1 {
		n = 1
	}
	return []byte(f(strings.Repeat("Tell me a story about a gateway. ", n/33+1)[:n]))
}

func (k *conn) do(req []byte, st *stats, start time.Time) error {
	if k.c == nil {
		c, err := net.DialTimeout("tcp", *addr, 5*time.Second)
		if err != nil {
			return err
		}
		k.c, k.r = c, bufio.NewReaderSize(c, 32<<10)
	}
	k.c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := k.c.Write(req); err != nil {
		return err
	}
	line, err := k.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 {
		return fmt.Errorf("bad status line %q", line)
	}
	code, _ := strconv.Atoi(string(line[9:12]))
	cl, chunked, closing := -1, false, false
	for {
		h, err := k.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(h) <= 2 {
			break
		}
		i := bytes.IndexByte(h, ':')
		if i < 0 {
			continue
		}
		switch {
		case i == 14 && bytes.EqualFold(h[:i], []byte("content-length")):
			cl, _ = strconv.Atoi(string(bytes.TrimSpace(h[i+1:])))
		case i == 17 && bytes.EqualFold(h[:i], []byte("transfer-encoding")):
			chunked = true
		case i == 10 && bytes.EqualFold(h[:i], []byte("connection")):
			closing = bytes.Contains(bytes.ToLower(h[i:]), []byte("close"))
		}
	}
	st.reqs++
	st.status[code]++
	var rd io.Reader = k.r
	if chunked {
		rd = httputil.NewChunkedReader(k.r)
	} else if cl >= 0 {
		rd = io.LimitReader(k.r, int64(cl))
	}
	if *mode == "json" || code != 200 {
		var buf [4096]byte
		n := 0
		for {
			m, err := rd.Read(buf[:])
			if n == 0 && m > 0 && code != 200 && st.firstErr == "" {
				st.firstErr = strings.ToValidUTF8(string(buf[:clip(m, 400)]), "?")
			}
			n += m
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if code == 200 && n < 200 {
			return fmt.Errorf("short body: %d bytes", n)
		}
	} else {
		br := bufio.NewReaderSize(rd, 8<<10)
		first, gotUsage := true, false
		for {
			l, err := br.ReadSlice('\n')
			if len(l) > 6 && l[0] == 'd' {
				i := bytes.Index(l, []byte(`"content":"`))
				w := 11
				if i < 0 {
					i = bytes.Index(l, []byte(`"text":"`))
					w = 8
				}
				if i < 0 {
					i = bytes.Index(l, []byte(`"content": "`))
					w = 12
				}
				if i > 0 && l[i+w] != '"' {
					now := time.Now()
					if first {
						st.ttft = append(st.ttft, now.Sub(start).Nanoseconds())
						first = false
					}
					st.chunks++
					if *lagOn {
						s := l[i+w:]
						s = bytes.TrimLeft(s, " ")
						if e := bytes.IndexByte(s, '"'); e > 0 {
							if t, err := strconv.ParseInt(string(s[:e]), 10, 64); err == nil {
								st.lag = append(st.lag, now.UnixNano()-t)
							}
						}
					}
				}
				if bytes.Contains(l, []byte(`"usage":{`)) || bytes.Contains(l, []byte(`"usage": {`)) {
					gotUsage = true
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if !gotUsage {
			st.noUsage++
		}
	}
	if chunked {
		if _, err := k.r.Discard(2); err != nil { // the CRLF after the last chunk
			return err
		}
	}
	if code == 200 {
		st.lat = append(st.lat, time.Since(start).Nanoseconds())
	}
	if closing || (!chunked && cl < 0) {
		k.c.Close()
		k.c = nil
	}
	return nil
}

func clip(n, most int) int {
	if n > most {
		return most
	}
	return n
}

// q is the quantile p of the sorted nanoseconds a, in microseconds.
func q(a []int64, p float64) float64 {
	if len(a) == 0 {
		return 0
	}
	i := int(float64(len(a)) * p)
	if i >= len(a) {
		i = len(a) - 1
	}
	return float64(a[i]) / 1000
}

func main() {
	flag.Parse()
	b := body()
	req := []byte("POST " + *path + " HTTP/1.1\r\nHost: " + *addr + "\r\nContent-Type: application/json\r\nAuthorization: Bearer " + *key + "\r\nAccept: */*\r\n")
	if *headers != "" {
		for _, h := range strings.Split(*headers, "|") {
			req = append(req, (h + "\r\n")...)
		}
	}
	req = append(req, ("Content-Length: " + strconv.Itoa(len(b)) + "\r\n\r\n")...)
	req = append(req, b...)
	all := make([]*stats, *nc)
	var wg sync.WaitGroup
	t0 := time.Now()
	end := t0.Add(*dur)
	var slot, issued atomic.Int64
	for i := range all {
		st := &stats{status: map[int]int64{}}
		all[i] = st
		wg.Add(1)
		go func() {
			defer wg.Done()
			k := &conn{}
			for {
				if *total > 0 && issued.Add(1) > *total {
					return
				}
				start := time.Now()
				if *rate > 0 {
					start = t0.Add(time.Duration(float64(slot.Add(1)-1) / *rate * 1e9))
					if d := time.Until(start); d > 0 {
						time.Sleep(d)
						start = time.Now() // the connection was idle: the timer's own lateness is not the gateway's
					}
				}
				if !start.Before(end) || time.Now().After(end.Add(5*time.Second)) {
					return
				}
				if err := k.do(req, st, start); err != nil {
					st.errs++
					if st.firstErr == "" {
						st.firstErr = err.Error()
					}
					if k.c != nil {
						k.c.Close()
						k.c = nil
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
	}
	wg.Wait()
	el := time.Since(t0).Seconds()
	tot := stats{status: map[int]int64{}}
	for _, s := range all {
		tot.lat = append(tot.lat, s.lat...)
		tot.ttft = append(tot.ttft, s.ttft...)
		tot.lag = append(tot.lag, s.lag...)
		tot.chunks += s.chunks
		tot.errs += s.errs
		tot.noUsage += s.noUsage
		tot.reqs += s.reqs
		for c, n := range s.status {
			tot.status[c] += n
		}
		if tot.firstErr == "" {
			tot.firstErr = s.firstErr
		}
	}
	for _, a := range [][]int64{tot.lat, tot.ttft, tot.lag} {
		sort.Slice(a, func(i, j int) bool { return a[i] < a[j] })
	}
	o := map[string]any{
		"reqs": tot.reqs, "ok": len(tot.lat), "errors": tot.errs, "status": tot.status, "elapsed_s": el,
		"rps": float64(len(tot.lat)) / el, "lat_us_p50": q(tot.lat, .5), "lat_us_p90": q(tot.lat, .9), "lat_us_p99": q(tot.lat, .99),
	}
	if tot.firstErr != "" {
		o["first_error"] = tot.firstErr
	}
	if *mode == "stream" {
		o["chunks"] = tot.chunks
		o["chunks_per_s"] = float64(tot.chunks) / el
		o["ttft_us_p50"], o["ttft_us_p99"] = q(tot.ttft, .5), q(tot.ttft, .99)
		o["lag_us_p50"], o["lag_us_p99"] = q(tot.lag, .5), q(tot.lag, .99)
		o["no_usage"] = tot.noUsage
	}
	json.NewEncoder(os.Stdout).Encode(o)
	if len(tot.lat) == 0 {
		os.Exit(1)
	}
}

// Driver for Go's clients: driver CLIENT BOOTSTRAP. ../README.md is the contract.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"sync"
	"time"
)

const timeout = 30 * time.Second

type record struct {
	P int32       `json:"p"`
	O int64       `json:"o"`
	K *string     `json:"k"`
	V *string     `json:"v"`
	H [][2]string `json:"h"`
	T *int64      `json:"t,omitempty"`
}

// from is "beginning", "end" or {"time": ms}.
type from struct {
	where string
	time  int64
}

func (f *from) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &f.where) == nil {
		return nil
	}
	var at struct{ Time int64 }
	err := json.Unmarshal(b, &at)
	f.where, f.time = "time", at.Time
	return err
}

// round is one transaction.
type round struct {
	Values []string `json:"values"`
	Commit bool     `json:"commit"`
}

type request struct {
	ID         int64             `json:"id"`
	Op         string            `json:"op"`
	Topic      string            `json:"topic"`
	Codec      string            `json:"codec"`
	Acks       int16             `json:"acks"`
	Idempotent bool              `json:"idempotent"`
	Records    []record          `json:"records"`
	Partitions json.RawMessage   `json:"partitions"`
	Partition  int32             `json:"partition"`
	From       from              `json:"from"`
	Count      int               `json:"count"`
	Committed  bool              `json:"committed"`
	TxnID      string            `json:"transactional_id"`
	Rounds     []round           `json:"rounds"`
	IntervalMs int               `json:"interval_ms"`
	Until      string            `json:"until"`
	Member     string            `json:"member"`
	Group      string            `json:"group"`
	Instance   string            `json:"instance"`
	Protocol   string            `json:"protocol"`
	SessionMs  int               `json:"session_ms"`
	Config     map[string]string `json:"config"`
}

func (r *request) list() (ps []int32) {
	_ = json.Unmarshal(r.Partitions, &ps) // a list here by contract; else empty, and the read fails
	return ps
}

func (r *request) number() (n int32) {
	_ = json.Unmarshal(r.Partitions, &n)
	return n
}

// goesOn says whether a stream sends another record after n.
func (r *request) goesOn(n int) bool {
	_, err := os.Stat(r.Until)
	return n < r.Count && err != nil
}

type answer map[string]any

// client is one library; a method of it is one op of the contract.
type client interface {
	produce(r *request) (answer, error)
	read(r *request) (answer, error)
	transact(r *request) (answer, error)
	stream(r *request) (answer, error)
	join(r *request) (answer, error)
	commit(r *request) (answer, error)
	leave(r *request) (answer, error)
	create(r *request) (answer, error)
	addPartitions(r *request) (answer, error)
	alter(r *request) (answer, error)
	describe(r *request) (answer, error)
	topics(r *request) (answer, error)
	remove(r *request) (answer, error)
}

var out sync.Mutex

func say(line answer) {
	b, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(string(b))
}

func sayOwned(member string, ps []int32) {
	own := append([]int32{}, ps...)
	sort.Slice(own, func(i, j int) bool { return own[i] < own[j] })
	say(answer{"event": "owned", "member": member, "partitions": own})
}

func sayValues(member string, values []string) {
	if len(values) > 0 {
		say(answer{"event": "values", "member": member, "values": values})
	}
}

func moduleVersion(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version[1:]
		}
	}
	return "?"
}

func main() {
	name, bootstrap := os.Args[1], os.Args[2]
	var c client
	var version string
	switch name {
	case "franz-go":
		c, version = newFranz(bootstrap), moduleVersion("github.com/twmb/franz-go")
	case "sarama":
		c, version = newSarama(bootstrap), moduleVersion("github.com/IBM/sarama")
	default:
		fmt.Fprintln(os.Stderr, "unknown client", name)
		os.Exit(2)
	}
	ops := map[string]func(*request) (answer, error){
		"produce": c.produce, "read": c.read, "transact": c.transact, "stream": c.stream, "join": c.join, "commit": c.commit,
		"leave": c.leave, "create": c.create, "add_partitions": c.addPartitions, "alter": c.alter,
		"describe": c.describe, "topics": c.topics, "delete": c.remove,
	}
	say(answer{"event": "ready", "client": name, "version": version})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		r := &request{}
		if err := json.Unmarshal(in.Bytes(), r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		go func() {
			a, err := ops[r.Op](r)
			if err != nil {
				a = answer{"error": err.Error()}
			}
			if a == nil {
				a = answer{}
			}
			a["id"] = r.ID
			say(a)
		}()
	}
}

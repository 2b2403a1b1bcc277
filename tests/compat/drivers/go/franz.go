package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct {
	bootstrap string
	mu        sync.Mutex
	members   map[string]*franzMember
}

type franzMember struct {
	cl   *kgo.Client
	done chan struct{}
	mu   sync.Mutex
	own  map[int32]bool
}

func newFranz(bootstrap string) client {
	return &franz{bootstrap: bootstrap, members: map[string]*franzMember{}}
}

func (f *franz) open(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.bootstrap)}, opts...)...)
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), timeout)
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func bytesText(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func (f *franz) produce(r *request) (answer, error) {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(franzCodecs[r.Codec])}
	switch r.Acks {
	case 0:
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case 1:
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	default:
		if !r.Idempotent {
			opts = append(opts, kgo.DisableIdempotentWrite())
		}
	}
	cl, err := f.open(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := limit()
	defer cancel()
	var recs []*kgo.Record
	for _, m := range r.Records {
		rec := &kgo.Record{Topic: r.Topic, Partition: m.P}
		if m.K != nil {
			rec.Key = []byte(*m.K)
		}
		if m.V != nil {
			rec.Value = []byte(*m.V)
		}
		for _, h := range m.H {
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		if m.T != nil {
			rec.Timestamp = time.UnixMilli(*m.T)
		}
		recs = append(recs, rec)
	}
	return nil, cl.ProduceSync(ctx, recs...).FirstErr()
}

func (f *franz) read(r *request) (answer, error) {
	at := kgo.NewOffset()
	switch r.From.where {
	case "beginning":
		at = at.AtStart()
	case "end":
		at = at.AtEnd()
	default:
		at = at.AfterMilli(r.From.time)
	}
	ctx, cancel := limit()
	defer cancel()
	if r.From.where == "end" { // now, not when the first fetch happens to start
		plain, err := f.open()
		if err != nil {
			return nil, err
		}
		ends, err := kadm.NewClient(plain).ListEndOffsets(ctx, r.Topic)
		plain.Close()
		if err != nil {
			return nil, err
		}
		found := map[int32]kgo.Offset{}
		for _, p := range r.list() {
			o, _ := ends.Lookup(r.Topic, p)
			found[p] = kgo.NewOffset().At(o.Offset)
		}
		return f.readFrom(ctx, r, found)
	}
	found := map[int32]kgo.Offset{}
	for _, p := range r.list() {
		found[p] = at
	}
	return f.readFrom(ctx, r, found)
}

func (f *franz) readFrom(ctx context.Context, r *request, at map[int32]kgo.Offset) (answer, error) {
	level := kgo.ReadUncommitted()
	if r.Committed {
		level = kgo.ReadCommitted()
	}
	cl, err := f.open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: at}),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.FetchIsolationLevel(level))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	say(answer{"event": "positioned", "id": r.ID})
	recs := []record{}
	for len(recs) < r.Count {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(recs), r.Count, err)
		}
		fs.EachRecord(func(m *kgo.Record) {
			t := m.Timestamp.UnixMilli()
			rec := record{P: m.Partition, O: m.Offset, K: bytesText(m.Key), V: bytesText(m.Value), T: &t,
				H: [][2]string{}}
			for _, h := range m.Headers {
				rec.H = append(rec.H, [2]string{h.Key, string(h.Value)})
			}
			recs = append(recs, rec)
		})
	}
	return answer{"records": recs}, nil
}

func (f *franz) transact(r *request) (answer, error) {
	cl, err := f.open(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(r.TxnID))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := limit()
	defer cancel()
	for _, one := range r.Rounds {
		if err := cl.BeginTransaction(); err != nil {
			return nil, err
		}
		var recs []*kgo.Record
		for _, v := range one.Values {
			recs = append(recs, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Value: []byte(v)})
		}
		if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
			return nil, err
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(one.Commit)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (f *franz) stream(r *request) (answer, error) {
	cl, err := f.open(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var mu sync.Mutex
	acked, failed := [][2]int64{}, []string{}
	sent := 0
	for ; r.goesOn(sent); sent++ {
		i := sent
		rec := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Value: []byte(fmt.Sprintf("s-%06d", i))}
		cl.Produce(context.Background(), rec, func(rec *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err.Error())
			} else {
				acked = append(acked, [2]int64{int64(i), rec.Offset})
			}
		})
		time.Sleep(time.Duration(r.IntervalMs) * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout)
	defer cancel()
	if err := cl.Flush(ctx); err != nil {
		return nil, err
	}
	return answer{"sent": sent, "acked": acked, "failed": failed}, nil
}

func (m *franzMember) moved(name, topic string, ps map[string][]int32, owns bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range ps[topic] {
		if owns {
			m.own[p] = true
		} else {
			delete(m.own, p)
		}
	}
	all := []int32{}
	for p := range m.own {
		all = append(all, p)
	}
	sayOwned(name, all)
}

func (f *franz) join(r *request) (answer, error) {
	m := &franzMember{done: make(chan struct{}), own: map[int32]bool{}}
	gone := func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { m.moved(r.Member, r.Topic, ps, false) }
	opts := []kgo.Opt{
		kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
			m.moved(r.Member, r.Topic, ps, true)
		}),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
	}
	if r.Protocol == "consumer" {
		opts = append(opts, kgo.ServerSideBalancer())
	} else {
		opts = append(opts, kgo.Balancers(kgo.RoundRobinBalancer()),
			kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.SessionTimeout(time.Duration(r.SessionMs)*time.Millisecond))
	}
	if r.Instance != "" {
		opts = append(opts, kgo.InstanceID(r.Instance))
	}
	var err error
	if m.cl, err = f.open(opts...); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.members[r.Member] = m
	f.mu.Unlock()
	go func() {
		defer close(m.done)
		for {
			fs := m.cl.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			if err := fs.Err(); err != nil {
				say(answer{"event": "failed", "member": r.Member, "error": err.Error()})
				return
			}
			values := []string{}
			fs.EachRecord(func(rec *kgo.Record) { values = append(values, string(rec.Value)) })
			sayValues(r.Member, values)
		}
	}()
	return nil, nil
}

func (f *franz) member(name string) *franzMember {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[name]
}

func (f *franz) commit(r *request) (answer, error) {
	ctx, cancel := limit()
	defer cancel()
	return nil, f.member(r.Member).cl.CommitUncommittedOffsets(ctx)
}

func (f *franz) leave(r *request) (answer, error) {
	m := f.member(r.Member)
	m.cl.Close()
	<-m.done
	return nil, nil
}

func (f *franz) admin(work func(ctx context.Context, a *kadm.Client) (answer, error)) (answer, error) {
	cl, err := f.open()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := limit()
	defer cancel()
	return work(ctx, kadm.NewClient(cl))
}

func (f *franz) create(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		config := map[string]*string{}
		for k, v := range r.Config {
			config[k] = kadm.StringPtr(v)
		}
		_, err := a.CreateTopic(ctx, r.number(), 1, config, r.Topic)
		return nil, err
	})
}

func (f *franz) addPartitions(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		rs, err := a.UpdatePartitions(ctx, r.Count, r.Topic)
		if err == nil {
			err = rs.Error()
		}
		return nil, err
	})
}

func (f *franz) alter(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		configs := []kadm.AlterConfig{}
		for k, v := range r.Config {
			configs = append(configs, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: kadm.StringPtr(v)})
		}
		rs, err := a.AlterTopicConfigs(ctx, configs, r.Topic)
		if err == nil {
			for _, one := range rs {
				if one.Err != nil {
					return nil, one.Err
				}
			}
		}
		return nil, err
	})
}

func (f *franz) describe(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		rs, err := a.DescribeTopicConfigs(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		res, err := rs.On(r.Topic, nil)
		if err != nil {
			return nil, err
		}
		config := map[string]*string{}
		for _, c := range res.Configs {
			config[c.Key] = c.Value
		}
		topics, err := a.ListTopics(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		return answer{"partitions": len(topics[r.Topic].Partitions), "config": config}, nil
	})
}

func (f *franz) topics(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		topics, err := a.ListTopics(ctx)
		return answer{"topics": topics.Names()}, err
	})
}

func (f *franz) remove(r *request) (answer, error) {
	return f.admin(func(ctx context.Context, a *kadm.Client) (answer, error) {
		_, err := a.DeleteTopic(ctx, r.Topic)
		return nil, err
	})
}

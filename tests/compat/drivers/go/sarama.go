package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct {
	bootstrap string
	mu        sync.Mutex
	members   map[string]*saramaMember
}

type saramaMember struct {
	name, topic string
	group       sarama.ConsumerGroup
	stop        context.CancelFunc
	done        chan struct{}
	mu          sync.Mutex
	session     sarama.ConsumerGroupSession
}

func newSarama(bootstrap string) client {
	return &saramaClient{bootstrap: bootstrap, members: map[string]*saramaMember{}}
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.ClientID = "compat"
	return c
}

func (s *saramaClient) brokers() []string { return []string{s.bootstrap} }

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func (s *saramaClient) produce(r *request) (answer, error) {
	c := saramaConfig()
	c.Producer.RequiredAcks = sarama.RequiredAcks(r.Acks)
	c.Producer.Compression = saramaCodecs[r.Codec]
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	if r.Idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	p, err := sarama.NewSyncProducer(s.brokers(), c)
	if err != nil {
		return nil, err
	}
	var all []*sarama.ProducerMessage
	for _, m := range r.Records {
		pm := &sarama.ProducerMessage{Topic: r.Topic, Partition: m.P}
		if m.K != nil {
			pm.Key = sarama.StringEncoder(*m.K)
		}
		if m.V != nil {
			pm.Value = sarama.StringEncoder(*m.V)
		}
		for _, h := range m.H {
			pm.Headers = append(pm.Headers, sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
		}
		if m.T != nil {
			pm.Timestamp = time.UnixMilli(*m.T)
		}
		all = append(all, pm)
	}
	err = p.SendMessages(all)
	return nil, errors.Join(err, p.Close())
}

func (s *saramaClient) read(r *request) (answer, error) {
	c := saramaConfig()
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	if r.Committed {
		c.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	cl, err := sarama.NewClient(s.brokers(), c)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	consumer, err := sarama.NewConsumerFromClient(cl)
	if err != nil {
		return nil, err
	}
	at := map[string]int64{"beginning": sarama.OffsetOldest, "end": sarama.OffsetNewest, "time": r.From.time}
	got := make(chan *sarama.ConsumerMessage, 1000)
	var readers []sarama.PartitionConsumer
	for _, p := range r.list() {
		offset, err := cl.GetOffset(r.Topic, p, at[r.From.where])
		if err != nil {
			return nil, err
		}
		pc, err := consumer.ConsumePartition(r.Topic, p, offset)
		if err != nil {
			return nil, err
		}
		readers = append(readers, pc)
		go func() {
			for m := range pc.Messages() {
				got <- m
			}
		}()
	}
	say(answer{"event": "positioned", "id": r.ID})
	recs := []record{}
	late := time.After(timeout)
	for len(recs) < r.Count && err == nil {
		select {
		case m := <-got:
			t := m.Timestamp.UnixMilli()
			rec := record{P: m.Partition, O: m.Offset, K: bytesText(m.Key), V: bytesText(m.Value), T: &t,
				H: [][2]string{}}
			for _, h := range m.Headers {
				rec.H = append(rec.H, [2]string{string(h.Key), string(h.Value)})
			}
			recs = append(recs, rec)
		case <-late:
			err = fmt.Errorf("%d of %d records", len(recs), r.Count)
		}
	}
	for _, pc := range readers {
		pc.AsyncClose()
	}
	return answer{"records": recs}, err
}

func (s *saramaClient) transact(r *request) (answer, error) {
	c := saramaConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Transaction.ID = r.TxnID
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer(s.brokers(), c)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	for _, one := range r.Rounds {
		if err := p.BeginTxn(); err != nil {
			return nil, err
		}
		var all []*sarama.ProducerMessage
		for _, v := range one.Values {
			all = append(all, &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition,
				Value: sarama.StringEncoder(v)})
		}
		if err := p.SendMessages(all); err != nil {
			return nil, err
		}
		end := p.AbortTxn
		if one.Commit {
			end = p.CommitTxn
		}
		if err := end(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (s *saramaClient) stream(r *request) (answer, error) {
	c := saramaConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 200
	c.Metadata.Retry.Max = 200
	p, err := sarama.NewAsyncProducer(s.brokers(), c)
	if err != nil {
		return nil, err
	}
	ended := make(chan int, 1)
	go func() {
		i := 0
		for ; r.goesOn(i); i++ {
			p.Input() <- &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition, Metadata: i,
				Value: sarama.StringEncoder(fmt.Sprintf("s-%06d", i))}
			time.Sleep(time.Duration(r.IntervalMs) * time.Millisecond)
		}
		ended <- i
	}()
	acked, failed := [][2]int64{}, []string{}
	var late <-chan time.Time
	sent := -1 // it goes on
	for sent < 0 || len(acked)+len(failed) < sent {
		select {
		case sent = <-ended:
			late = time.After(3 * timeout)
		case m := <-p.Successes():
			acked = append(acked, [2]int64{int64(m.Metadata.(int)), m.Offset})
		case e := <-p.Errors():
			failed = append(failed, e.Err.Error())
		case <-late:
			return nil, errors.New("records are not acknowledged")
		}
	}
	return answer{"sent": sent, "acked": acked, "failed": failed}, p.Close()
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	m.session = session
	m.mu.Unlock()
	sayOwned(m.name, session.Claims()[m.topic])
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	sayOwned(m.name, nil)
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case msg, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			session.MarkMessage(msg, "")
			sayValues(m.name, []string{string(msg.Value)})
		case <-session.Context().Done():
			return nil
		}
	}
}

func (s *saramaClient) join(r *request) (answer, error) {
	c := saramaConfig()
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRoundRobin()}
	c.Consumer.Group.Session.Timeout = time.Duration(r.SessionMs) * time.Millisecond
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	c.Consumer.Group.InstanceId = r.Instance
	group, err := sarama.NewConsumerGroup(s.brokers(), r.Group, c)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaMember{name: r.Member, topic: r.Topic, group: group, stop: stop, done: make(chan struct{})}
	s.mu.Lock()
	s.members[r.Member] = m
	s.mu.Unlock()
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			err := group.Consume(ctx, []string{r.Topic}, m)
			if err != nil && ctx.Err() == nil {
				say(answer{"event": "failed", "member": r.Member, "error": err.Error()})
				return
			}
		}
	}()
	return nil, nil
}

func (s *saramaClient) member(name string) *saramaMember {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[name]
}

func (s *saramaClient) commit(r *request) (answer, error) {
	m := s.member(r.Member)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session.Commit()
	return nil, nil
}

func (s *saramaClient) leave(r *request) (answer, error) {
	m := s.member(r.Member)
	m.stop()
	<-m.done
	return nil, m.group.Close()
}

func (s *saramaClient) admin(work func(a sarama.ClusterAdmin) (answer, error)) (answer, error) {
	a, err := sarama.NewClusterAdmin(s.brokers(), saramaConfig())
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return work(a)
}

func (s *saramaClient) create(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) {
		config := map[string]*string{}
		for k, v := range r.Config {
			config[k] = &v
		}
		return nil, a.CreateTopic(r.Topic, &sarama.TopicDetail{NumPartitions: r.number(),
			ReplicationFactor: 1, ConfigEntries: config}, false)
	})
}

func (s *saramaClient) addPartitions(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) {
		return nil, a.CreatePartitions(r.Topic, int32(r.Count), nil, false)
	})
}

func (s *saramaClient) alter(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) {
		entries := map[string]sarama.IncrementalAlterConfigsEntry{}
		for k, v := range r.Config {
			entries[k] = sarama.IncrementalAlterConfigsEntry{
				Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &v}
		}
		return nil, a.IncrementalAlterConfig(sarama.TopicResource, r.Topic, entries, false)
	})
}

func (s *saramaClient) describe(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) {
		found, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: r.Topic})
		if err != nil {
			return nil, err
		}
		config := map[string]string{}
		for _, e := range found {
			config[e.Name] = e.Value
		}
		meta, err := a.DescribeTopics([]string{r.Topic})
		if err != nil {
			return nil, err
		}
		return answer{"partitions": len(meta[0].Partitions), "config": config}, nil
	})
}

func (s *saramaClient) topics(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) {
		found, err := a.ListTopics()
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		return answer{"topics": names}, err
	})
}

func (s *saramaClient) remove(r *request) (answer, error) {
	return s.admin(func(a sarama.ClusterAdmin) (answer, error) { return nil, a.DeleteTopic(r.Topic) })
}

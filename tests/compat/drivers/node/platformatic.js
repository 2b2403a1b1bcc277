// @platformatic/kafka.
'use strict'
const { randomUUID } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { Admin, ConfigResourceTypes, Consumer, IncrementalAlterConfigOperationTypes, Producer } = require('@platformatic/kafka')

const TIMEOUT = 30000
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
const text = b => b === null || b === undefined ? null : b.toString()
const bytes = s => s === null || s === undefined ? undefined : Buffer.from(s)

function create (bootstrap, say) {
  const base = { clientId: 'compat', bootstrapBrokers: [bootstrap], retries: 60, retryDelay: 200 }
  const members = new Map()
  let admin // one for all requests
  const getAdmin = () => (admin ??= new Admin({ ...base, retries: 3 }))

  const newConsumer = (r, extra) => new Consumer({
    ...base, groupId: r.group, autocommit: false, maxWaitTime: 100, minBytes: 1, ...extra
  })

  return {
    async produce (r) {
      const producer = new Producer({ ...base, retries: 3 })
      await producer.send({
        acks: r.acks,
        compression: r.codec,
        idempotent: !!r.idempotent,
        messages: r.records.map(m => ({
          topic: r.topic,
          partition: m.p,
          key: bytes(m.k),
          value: bytes(m.v),
          headers: new Map(m.h.map(([n, v]) => [Buffer.from(n), Buffer.from(v)])),
          ...(m.t === undefined ? {} : { timestamp: BigInt(m.t) })
        }))
      })
      await producer.close()
    },

    async read (r) {
      const consumer = newConsumer({ group: `read-${randomUUID()}` }, {
        sessionTimeout: 10000, rebalanceTimeout: 10000, isolationLevel: r.committed ? 1 : 0
      })
      const timestamp = r.from === 'beginning' ? -2n : r.from === 'end' ? -1n : BigInt(r.from.time)
      const found = await consumer.listOffsets({ topics: [r.topic], partitions: { [r.topic]: r.partitions }, timestamp })
      const all = found.get(r.topic)
      const offsets = r.partitions.map((partition, i) => ({
        topic: r.topic, partition, offset: all.length === r.partitions.length ? all[i] : all[partition]
      }))
      const start = new Map(offsets.map(o => [o.partition, o.offset]))
      const stream = await consumer.consume({ topics: [r.topic], mode: 'manual', offsets })
      say({ event: 'positioned', id: r.id })
      const records = []
      const timer = setTimeout(() => stream.destroy(new Error(`${records.length} of ${r.count} records`)), TIMEOUT)
      for await (const m of stream) {
        if (!r.partitions.includes(m.partition) || m.offset < start.get(m.partition)) continue
        records.push({
          p: m.partition,
          o: Number(m.offset),
          k: text(m.key),
          v: text(m.value),
          h: [...m.headers].map(([n, v]) => [text(n), text(v)]),
          t: Number(m.timestamp)
        })
        if (records.length === r.count) break
      }
      clearTimeout(timer)
      await consumer.close(true)
      return { records }
    },

    async transact (r) {
      const producer = new Producer({ ...base, idempotent: true, transactionalId: r.transactional_id, retries: 5 })
      for (const one of r.rounds) {
        const transaction = await producer.beginTransaction()
        await transaction.send({
          acks: -1, messages: one.values.map(v => ({ topic: r.topic, partition: r.partition, value: Buffer.from(v) }))
        })
        await (one.commit ? transaction.commit() : transaction.abort())
      }
      await producer.close()
    },

    async stream (r) {
      const producer = new Producer({ ...base, idempotent: true, acks: -1 })
      const acked = []
      const failed = []
      let i = 0
      for (; i < r.count && !fs.existsSync(r.until); i++) {
        const value = Buffer.from('s-' + String(i).padStart(6, '0'))
        try {
          const got = await producer.send({ messages: [{ topic: r.topic, partition: r.partition, value }] })
          acked.push([i, Number(got.offsets[0].offset)])
        } catch (e) {
          failed.push(e.message)
        }
        await sleep(r.interval_ms)
      }
      await producer.close()
      return { sent: i, acked, failed }
    },

    async join (r) {
      const protocol = r.protocol === 'consumer'
        ? { groupProtocol: 'consumer' }
        : { sessionTimeout: r.session_ms, heartbeatInterval: 300, rebalanceTimeout: Math.max(10000, r.session_ms) }
      const consumer = newConsumer(r, { ...protocol, ...(r.instance ? { groupInstanceId: r.instance } : {}) })
      const member = { consumer, topic: r.topic, owned: [], next: new Map() }
      members.set(r.member, member)
      const owned = assignments => {
        const partitions = assignments.filter(a => a.topic === r.topic).flatMap(a => a.partitions)
        member.owned = partitions
        say({ event: 'owned', member: r.member, partitions: partitions.sort((a, b) => a - b) })
      }
      if (r.protocol === 'consumer') { // it has no event for what the server assigns
        let last = '[]'
        member.watch = setInterval(() => {
          const now = JSON.stringify(consumer.assignments ?? [])
          if (now !== last) owned(JSON.parse(last = now))
        }, 50)
      } else {
        consumer.on('consumer:group:join', e => owned(e.assignments ?? []))
        consumer.on('consumer:group:rebalance', () => owned([]))
      }
      consumer.on('error', e => say({ event: 'failed', member: r.member, error: e.message }))
      const consume = async () => {
        member.stream = await consumer.consume({ topics: [r.topic], mode: 'committed', fallbackMode: 'earliest' })
        member.stream.on('data', m => {
          member.next.set(m.partition, { offset: m.offset + 1n, leaderEpoch: m.leaderEpoch })
          say({ event: 'values', member: r.member, values: [text(m.value)] })
        })
        member.stream.on('error', e => say({ event: 'failed', member: r.member, error: e.message }))
      }
      consume().catch(e => say({ event: 'failed', member: r.member, error: e.message }))
    },

    async commit (r) {
      const { consumer, topic, next, owned } = members.get(r.member)
      const mine = [...next].filter(([partition]) => owned.includes(partition)) // it keeps its place where it owned before
      await consumer.commit({ offsets: mine.map(([partition, at]) => ({ topic, partition, ...at })) })
    },

    async leave (r) {
      const { consumer, watch } = members.get(r.member)
      clearInterval(watch)
      await consumer.close(true)
      members.delete(r.member)
    },

    async create (r) {
      const configs = Object.entries(r.config).map(([name, value]) => ({ name, value }))
      await getAdmin().createTopics({ topics: [r.topic], partitions: r.partitions, replicas: 1, configs })
    },
    async add_partitions (r) {
      await getAdmin().createPartitions({ topics: [{ name: r.topic, count: r.count, assignments: null }] })
    },
    async alter (r) {
      const configs = Object.entries(r.config).map(([name, value]) => ({
        name, value, configOperation: IncrementalAlterConfigOperationTypes.SET
      }))
      await getAdmin().incrementalAlterConfigs({
        resources: [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: r.topic, configs }]
      })
    },
    async describe (r) {
      const [found] = await getAdmin().describeConfigs({
        resources: [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: r.topic, configurationKeys: null }]
      })
      const meta = await getAdmin().metadata({ topics: [r.topic], forceUpdate: true })
      return {
        partitions: meta.topics.get(r.topic).partitionsCount,
        config: Object.fromEntries(found.configs.map(e => [e.name, e.value]))
      }
    },
    async topics () {
      return { topics: await getAdmin().listTopics() }
    },
    async delete (r) {
      await getAdmin().deleteTopics({ topics: [r.topic] })
    }
  }
}

const main = require.resolve('@platformatic/kafka')
const version = JSON.parse(fs.readFileSync(path.join(main, '..', '..', 'package.json'))).version
module.exports = { create, version }

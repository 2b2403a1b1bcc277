// kafkajs. Its codecs other than gzip are plug-ins by its documented interface; its consumers always
// belong to a group, so `read` joins one of its own and seeks.
'use strict'
const fs = require('node:fs')
const zlib = require('node:zlib')
const { randomUUID } = require('node:crypto')
const {
  AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, PartitionAssigners, logLevel
} = require('kafkajs')
const { lz4Compress, lz4Decompress } = require('@platformatic/wasm-utils')
const snappy = require('snappyjs')

const TIMEOUT = 30000
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4Compress(encoder.buffer),
  decompress: async buffer => lz4Decompress(buffer)
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer)
})

// Java frames snappy in chunks after a header of 16 bytes; others send one plain block.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async encoder => snappy.compress(encoder.buffer),
  decompress: async buffer => {
    if (!buffer.subarray(0, 8).equals(XERIAL)) return snappy.uncompress(buffer)
    const parts = []
    for (let at = 16; at < buffer.length;) {
      const len = buffer.readUInt32BE(at)
      parts.push(snappy.uncompress(buffer.subarray(at + 4, at + 4 + len)))
      at += 4 + len
    }
    return Buffer.concat(parts)
  }
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

// Kafka's name of what kafkajs calls RoundRobinAssigner, so that other libraries can share a group.
const roundrobin = config => ({
  ...PartitionAssigners.roundRobin(config),
  name: 'roundrobin',
  protocol: ({ topics }) => ({
    name: 'roundrobin',
    metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) })
  })
})

const text = b => b === null || b === undefined ? null : b.toString()

function create (bootstrap, say) {
  const kafka = new Kafka({
    clientId: 'compat', brokers: [bootstrap], logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 60 }
  })
  const members = new Map()

  async function withAdmin (work) {
    const admin = kafka.admin({ retry: { retries: 3 } })
    await admin.connect()
    try {
      return await work(admin)
    } finally {
      await admin.disconnect()
    }
  }

  return {
    async produce (r) {
      const producer = kafka.producer({ idempotent: !!r.idempotent, retry: { retries: 5 } })
      await producer.connect()
      await producer.send({
        topic: r.topic,
        acks: r.acks,
        compression: CODECS[r.codec],
        messages: r.records.map(m => ({
          partition: m.p,
          key: m.k,
          value: m.v,
          headers: Object.fromEntries(m.h),
          ...(m.t === undefined ? {} : { timestamp: String(m.t) })
        }))
      })
      await producer.disconnect()
    },

    async read (r) {
      const offsets = await withAdmin(async admin => {
        if (r.from.time !== undefined) return admin.fetchTopicOffsetsByTimestamp(r.topic, r.from.time)
        const found = await admin.fetchTopicOffsets(r.topic)
        return found.map(o => ({ partition: o.partition, offset: r.from === 'end' ? o.high : o.low }))
      })
      const start = new Map(offsets.map(o => [o.partition, BigInt(o.offset)]))
      const consumer = kafka.consumer({ groupId: `read-${randomUUID()}`, sessionTimeout: 10000, maxWaitTimeInMs: 100, readUncommitted: !r.committed })
      await consumer.connect()
      await consumer.subscribe({ topics: [r.topic], fromBeginning: true })
      const records = []
      let end
      const whole = new Promise(resolve => { end = resolve })
      const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          if (!r.partitions.includes(partition) || BigInt(message.offset) < start.get(partition)) return
          if (records.length >= r.count) return
          records.push({
            p: partition,
            o: Number(message.offset),
            k: text(message.key),
            v: text(message.value),
            h: Object.entries(message.headers).map(([n, v]) => [n, text(v)]),
            t: Number(message.timestamp)
          })
          if (records.length === r.count) end()
        }
      })
      await joined
      for (const p of r.partitions) consumer.seek({ topic: r.topic, partition: p, offset: String(start.get(p)) })
      say({ event: 'positioned', id: r.id })
      const timer = setTimeout(end, TIMEOUT)
      await whole
      clearTimeout(timer)
      await consumer.disconnect()
      if (records.length < r.count) throw new Error(`${records.length} of ${r.count} records`)
      return { records }
    },

    async transact (r) {
      const producer = kafka.producer({ transactionalId: r.transactional_id, idempotent: true, maxInFlightRequests: 1 })
      await producer.connect()
      for (const one of r.rounds) {
        const transaction = await producer.transaction()
        await transaction.send({
          topic: r.topic, acks: -1, messages: one.values.map(value => ({ partition: r.partition, value }))
        })
        await (one.commit ? transaction.commit() : transaction.abort())
      }
      await producer.disconnect()
    },

    async stream (r) {
      const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
      await producer.connect()
      const acked = []
      const failed = []
      let i = 0
      for (; i < r.count && !fs.existsSync(r.until); i++) {
        const value = 's-' + String(i).padStart(6, '0')
        try {
          const [got] = await producer.send({ topic: r.topic, acks: -1, messages: [{ partition: r.partition, value }] })
          acked.push([i, Number(got.baseOffset)])
        } catch (e) {
          failed.push(e.message)
        }
        await sleep(r.interval_ms)
      }
      await producer.disconnect()
      return { sent: i, acked, failed }
    },

    async join (r) {
      const consumer = kafka.consumer({
        groupId: r.group,
        sessionTimeout: r.session_ms,
        heartbeatInterval: 300,
        rebalanceTimeout: Math.max(10000, r.session_ms),
        maxWaitTimeInMs: 100,
        partitionAssigners: [roundrobin]
      })
      const member = { consumer, topic: r.topic, next: new Map() }
      members.set(r.member, member)
      await consumer.connect()
      await consumer.subscribe({ topics: [r.topic], fromBeginning: true })
      const owned = partitions => {
        for (const p of member.next.keys()) if (!partitions.includes(p)) member.next.delete(p)
        say({ event: 'owned', member: r.member, partitions: partitions.sort((a, b) => a - b) })
      }
      consumer.on(consumer.events.GROUP_JOIN, e => owned(e.payload.memberAssignment[r.topic] ?? []))
      consumer.on(consumer.events.REBALANCING, () => owned([]))
      consumer.on(consumer.events.CRASH, e => say({ event: 'failed', member: r.member, error: e.payload.error.message }))
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => {
          member.next.set(partition, BigInt(message.offset) + 1n)
          say({ event: 'values', member: r.member, values: [text(message.value)] })
        }
      })
    },

    async commit (r) {
      const { consumer, topic, next } = members.get(r.member)
      await consumer.commitOffsets([...next].map(([partition, offset]) => ({ topic, partition, offset: String(offset) })))
    },

    async leave (r) {
      await members.get(r.member).consumer.disconnect()
      members.delete(r.member)
    },

    create: r => withAdmin(async admin => {
      const configEntries = Object.entries(r.config).map(([name, value]) => ({ name, value }))
      await admin.createTopics({ topics: [{ topic: r.topic, numPartitions: r.partitions, configEntries }] })
    }),
    add_partitions: r => withAdmin(async admin => {
      await admin.createPartitions({ topicPartitions: [{ topic: r.topic, count: r.count }] })
    }),
    alter: r => withAdmin(async admin => {
      const configEntries = Object.entries(r.config).map(([name, value]) => ({ name, value }))
      await admin.alterConfigs({
        validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: r.topic, configEntries }]
      })
    }),
    describe: r => withAdmin(async admin => {
      const found = await admin.describeConfigs({
        includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: r.topic }]
      })
      const meta = await admin.fetchTopicMetadata({ topics: [r.topic] })
      return {
        partitions: meta.topics[0].partitions.length,
        config: Object.fromEntries(found.resources[0].configEntries.map(e => [e.configName, e.configValue]))
      }
    }),
    topics: () => withAdmin(async admin => ({ topics: await admin.listTopics() })),
    delete: r => withAdmin(async admin => { await admin.deleteTopics({ topics: [r.topic] }) })
  }
}

module.exports = { create, version: require('kafkajs/package.json').version }

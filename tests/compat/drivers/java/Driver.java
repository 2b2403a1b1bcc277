import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.Exit;

/**
 * Driver for Apache Kafka's own clients: Driver CLIENT BOOTSTRAP. ../README.md is the contract. One op
 * more: {"op": "tool", "main": CLASS, "args": [...], "input": TEXT} runs a command line tool of Kafka in
 * this process, one at a time, and answers {"code": exit code, "out": what it printed}.
 */
public class Driver {
    static final long TIMEOUT_MS = 30000;
    static final ObjectMapper json = new ObjectMapper();
    static final PrintStream out = System.out; // System.out belongs to the tools
    static String bootstrap;
    static final Map<String, Member> members = new ConcurrentHashMap<>();

    static void say(Map<String, ?> line) {
        try {
            String text = json.writeValueAsString(line);
            synchronized (out) {
                out.println(text);
                out.flush();
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static Properties properties(Object... pairs) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("reconnect.backoff.max.ms", "500");
        for (int i = 0; i < pairs.length; i += 2)
            p.put(pairs[i], String.valueOf(pairs[i + 1]));
        return p;
    }

    static KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(properties(pairs), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Object... pairs) {
        Properties p = properties(pairs);
        p.put("enable.auto.commit", "false");
        p.put("fetch.max.wait.ms", "200");
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    // --- produce and read ---

    static Map<String, Object> produce(JsonNode r) throws Exception {
        int acks = r.get("acks").asInt();
        boolean idempotent = r.path("idempotent").asBoolean();
        List<Future<RecordMetadata>> waiting = new ArrayList<>();
        try (KafkaProducer<String, String> p = producer("acks", acks, "linger.ms", 20,
                "enable.idempotence", idempotent, "compression.type", r.get("codec").asText())) {
            for (JsonNode m : r.get("records")) {
                ProducerRecord<String, String> rec = new ProducerRecord<>(r.get("topic").asText(),
                        m.get("p").asInt(), m.has("t") ? Long.valueOf(m.get("t").asLong()) : null,
                        m.get("k").textValue(), m.get("v").textValue());
                for (JsonNode h : m.get("h"))
                    rec.headers().add(h.get(0).asText(), h.get(1).asText().getBytes(StandardCharsets.UTF_8));
                waiting.add(p.send(rec));
            }
            for (Future<RecordMetadata> f : waiting)
                f.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        }
        return Map.of();
    }

    static Map<String, Object> read(JsonNode r) {
        String isolation = r.path("committed").asBoolean() ? "read_committed" : "read_uncommitted";
        try (KafkaConsumer<String, String> c = consumer("isolation.level", isolation)) {
            List<TopicPartition> parts = new ArrayList<>();
            for (JsonNode p : r.get("partitions"))
                parts.add(new TopicPartition(r.get("topic").asText(), p.asInt()));
            c.assign(parts);
            String from = r.get("from").asText();
            if (from.equals("beginning"))
                c.seekToBeginning(parts);
            else if (from.equals("end"))
                c.seekToEnd(parts);
            else {
                Map<TopicPartition, Long> times = new HashMap<>();
                for (TopicPartition tp : parts)
                    times.put(tp, r.get("from").get("time").asLong());
                c.offsetsForTimes(times).forEach((tp, at) -> c.seek(tp, at.offset()));
            }
            for (TopicPartition tp : parts)
                c.position(tp); // "end" is now
            say(Map.of("event", "positioned", "id", r.get("id").asLong()));
            List<Map<String, Object>> found = new ArrayList<>();
            long end = System.currentTimeMillis() + TIMEOUT_MS;
            while (found.size() < r.get("count").asInt()) {
                if (System.currentTimeMillis() > end)
                    throw new IllegalStateException(found.size() + " of " + r.get("count") + " records");
                for (ConsumerRecord<String, String> m : c.poll(Duration.ofMillis(200))) {
                    List<List<String>> headers = new ArrayList<>();
                    for (Header h : m.headers())
                        headers.add(List.of(h.key(), new String(h.value(), StandardCharsets.UTF_8)));
                    Map<String, Object> rec = new HashMap<>();
                    rec.put("p", m.partition());
                    rec.put("o", m.offset());
                    rec.put("k", m.key());
                    rec.put("v", m.value());
                    rec.put("h", headers);
                    rec.put("t", m.timestamp());
                    found.add(rec);
                }
            }
            return Map.of("records", found);
        }
    }

    static Map<String, Object> transact(JsonNode r) {
        try (KafkaProducer<String, String> p = producer("transactional.id", r.get("transactional_id").asText())) {
            p.initTransactions();
            for (JsonNode round : r.get("rounds")) {
                p.beginTransaction();
                for (JsonNode v : round.get("values"))
                    p.send(new ProducerRecord<>(r.get("topic").asText(), r.get("partition").asInt(), null,
                            v.asText()));
                p.flush(); // what is aborted was really written
                if (round.get("commit").asBoolean())
                    p.commitTransaction();
                else
                    p.abortTransaction();
            }
        }
        return Map.of();
    }

    static Map<String, Object> stream(JsonNode r) throws Exception {
        List<long[]> acked = Collections.synchronizedList(new ArrayList<>());
        List<String> failed = Collections.synchronizedList(new ArrayList<>());
        int sent = 0;
        try (KafkaProducer<String, String> p = producer("acks", "all", "enable.idempotence", true)) {
            for (; sent < r.get("count").asInt() && !new File(r.get("until").asText()).exists(); sent++) {
                int n = sent;
                p.send(new ProducerRecord<>(r.get("topic").asText(), r.get("partition").asInt(), null,
                        String.format("s-%06d", n)), (meta, e) -> {
                    if (e == null)
                        acked.add(new long[] {n, meta.offset()});
                    else
                        failed.add(e.toString());
                });
                Thread.sleep(r.get("interval_ms").asInt());
            }
        }
        return Map.of("sent", sent, "acked", acked, "failed", failed);
    }

    // --- groups ---

    static class Member extends Thread implements ConsumerRebalanceListener {
        final JsonNode r;
        final String name;
        final KafkaConsumer<String, String> c;
        final Set<Integer> own = new TreeSet<>();
        final AtomicBoolean stopping = new AtomicBoolean();
        final BlockingQueue<CompletableFuture<Void>> commits = new LinkedBlockingQueue<>();

        Member(JsonNode r) {
            this.r = r;
            name = r.get("member").asText();
            Map<Object, Object> conf = new HashMap<>();
            conf.put("group.id", r.get("group").asText());
            conf.put("auto.offset.reset", "earliest");
            if (r.path("protocol").asText().equals("consumer"))
                conf.put("group.protocol", "consumer");
            else {
                conf.put("session.timeout.ms", r.get("session_ms").asInt());
                conf.put("heartbeat.interval.ms", 300);
                conf.put("partition.assignment.strategy", RoundRobinAssignor.class.getName());
            }
            if (r.hasNonNull("instance"))
                conf.put("group.instance.id", r.get("instance").asText());
            c = consumer(conf.entrySet().stream().flatMap(e ->
                    java.util.stream.Stream.of(e.getKey(), e.getValue())).toArray());
            setDaemon(true);
        }

        void owned() {
            say(Map.of("event", "owned", "member", name, "partitions", own));
        }

        @Override public void onPartitionsAssigned(Collection<TopicPartition> ps) {
            ps.forEach(p -> own.add(p.partition()));
            owned();
        }

        @Override public void onPartitionsRevoked(Collection<TopicPartition> ps) {
            ps.forEach(p -> own.remove(p.partition()));
            owned();
        }

        @Override public void run() {
            try (c) {
                c.subscribe(List.of(r.get("topic").asText()), this);
                while (!stopping.get()) {
                    List<String> values = new ArrayList<>();
                    for (ConsumerRecord<String, String> m : c.poll(Duration.ofMillis(50)))
                        values.add(m.value());
                    if (!values.isEmpty())
                        say(Map.of("event", "values", "member", name, "values", values));
                    for (CompletableFuture<Void> f; (f = commits.poll()) != null; f.complete(null))
                        c.commitSync();
                }
            } catch (Exception e) {
                say(Map.of("event", "failed", "member", name, "error", e.toString()));
            }
        }
    }

    static Map<String, Object> join(JsonNode r) {
        Member m = new Member(r);
        members.put(m.name, m);
        m.start();
        return Map.of();
    }

    static Map<String, Object> commit(JsonNode r) throws Exception {
        CompletableFuture<Void> done = new CompletableFuture<>();
        members.get(r.get("member").asText()).commits.add(done);
        done.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        return Map.of();
    }

    static Map<String, Object> leave(JsonNode r) throws Exception {
        Member m = members.remove(r.get("member").asText());
        m.stopping.set(true);
        m.join(TIMEOUT_MS);
        return Map.of();
    }

    // --- administration ---

    static Map<String, Object> admin(JsonNode r) throws Exception {
        try (Admin a = Admin.create(properties())) {
            String topic = r.path("topic").asText();
            Map<String, String> config = new HashMap<>();
            r.path("config").fields().forEachRemaining(e -> config.put(e.getKey(), e.getValue().asText()));
            ConfigResource res = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            switch (r.get("op").asText()) {
            case "create":
                a.createTopics(List.of(new NewTopic(topic, r.get("partitions").asInt(), (short) 1)
                        .configs(config))).all().get();
                break;
            case "add_partitions":
                a.createPartitions(Map.of(topic, NewPartitions.increaseTo(r.get("count").asInt()))).all().get();
                break;
            case "alter":
                List<AlterConfigOp> ops = new ArrayList<>();
                config.forEach((k, v) -> ops.add(new AlterConfigOp(new ConfigEntry(k, v),
                        AlterConfigOp.OpType.SET)));
                a.incrementalAlterConfigs(Map.of(res, ops)).all().get();
                break;
            case "describe":
                Map<String, String> found = new HashMap<>();
                a.describeConfigs(List.of(res)).all().get().get(res).entries()
                        .forEach(e -> found.put(e.name(), e.value()));
                int partitions = a.describeTopics(List.of(topic)).allTopicNames().get().get(topic)
                        .partitions().size();
                return Map.of("partitions", partitions, "config", found);
            case "topics":
                return Map.of("topics", a.listTopics().names().get());
            case "delete":
                a.deleteTopics(List.of(topic)).all().get();
                break;
            }
            return Map.of();
        }
    }

    // --- Kafka's command line tools ---

    /** Thrown in the place of an exit; what a tool makes of it does not change its first exit code. */
    static class Exited extends Error {
        Exited() {
            super(null, null, false, false);
        }
    }

    static Integer exitCode;
    static final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());

    /**
     * The hooks of the process's end; kafka-verifiable-* add theirs without Kafka's Exit, so that nothing but
     * the map in which Java keeps them (hence --add-opens) has them before that end.
     */
    @SuppressWarnings("unchecked")
    static Map<Thread, Thread> hooksOfTheEnd() throws ReflectiveOperationException {
        java.lang.reflect.Field f = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        f.setAccessible(true);
        return (Map<Thread, Thread>) f.get(null);
    }

    /** Ends a tool as the end of its process would: runs the hooks that are there since it started. */
    static void end(Set<Thread> before) throws Exception {
        hooks.forEach(Runnable::run); // the console producer closes its producer there
        List<Thread> added = new ArrayList<>(hooksOfTheEnd().keySet());
        added.removeAll(before);
        for (Thread hook : added) {
            Runtime.getRuntime().removeShutdownHook(hook);
            hook.start();
            hook.join(TIMEOUT_MS);
            if (hook.isAlive())
                throw new IllegalStateException(hook.getName() + " does not end");
        }
    }

    static void exit(int code, String message) {
        if (message != null)
            System.out.println(message);
        if (exitCode == null)
            exitCode = code;
        throw new Exited();
    }

    /** What a tool prints: System.out and System.err of the whole process, which tools keep references to. */
    static class Capture extends OutputStream {
        ByteArrayOutputStream to = new ByteArrayOutputStream();

        @Override public synchronized void write(int b) {
            to.write(b);
        }

        @Override public synchronized void write(byte[] b, int off, int len) {
            to.write(b, off, len);
        }

        synchronized String take() {
            String text = to.toString(StandardCharsets.UTF_8);
            to.reset();
            return text;
        }
    }

    static final Capture captured = new Capture();

    static synchronized Map<String, Object> tool(JsonNode r) throws Exception {
        List<String> args = new ArrayList<>();
        r.get("args").forEach(a -> args.add(a.asText()));
        System.setIn(new ByteArrayInputStream(r.path("input").asText().getBytes(StandardCharsets.UTF_8)));
        captured.take();
        exitCode = null;
        hooks.clear();
        Set<Thread> before = Set.copyOf(hooksOfTheEnd().keySet());
        try {
            Class.forName(r.get("main").asText()).getMethod("main", String[].class)
                    .invoke(null, (Object) args.toArray(new String[0]));
        } catch (java.lang.reflect.InvocationTargetException e) {
            if (exitCode == null) {
                exitCode = -1;
                e.getCause().printStackTrace();
            }
        }
        end(before);
        System.out.flush();
        return Map.of("code", exitCode == null ? 0 : exitCode, "out", captured.take());
    }

    static Map<String, Object> run(JsonNode r) throws Exception {
        switch (r.get("op").asText()) {
        case "produce": return produce(r);
        case "read": return read(r);
        case "transact": return transact(r);
        case "stream": return stream(r);
        case "join": return join(r);
        case "commit": return commit(r);
        case "leave": return leave(r);
        case "tool": return tool(r);
        default: return admin(r);
        }
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[1];
        PrintStream capture = new PrintStream(captured, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(capture);
        System.setErr(capture);
        Exit.setExitProcedure(Driver::exit);
        Exit.setHaltProcedure(Driver::exit);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        ExecutorService threads = Executors.newCachedThreadPool(work -> {
            Thread t = new Thread(work);
            t.setDaemon(true);
            return t;
        });
        say(Map.of("event", "ready", "client", args[0], "version", AppInfoParser.getVersion()));
        for (String line; (line = in.readLine()) != null;) {
            JsonNode r = json.readTree(line);
            threads.execute(() -> {
                Map<String, Object> answer = new HashMap<>();
                try {
                    answer.putAll(run(r));
                } catch (Throwable e) {
                    Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
                    answer.put("error", cause.toString());
                }
                answer.put("id", r.get("id").asLong());
                say(answer);
            });
        }
        Runtime.getRuntime().halt(0);
    }
}

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.serialization.*;

/**
 * Clients that stay alive while the broker behind one address changes from Sluice to Kafka and back.
 * Argument: bootstrap. One command a line on standard input, one answer a line:
 *   create T N [K=V ...]       a topic
 *   fill T CODEC N             N records over all partitions: keys, none, null values, headers, old timestamps
 *   send N                     the one idempotent producer, to the topic "idem"; the last offset
 *   begin | more N | commit | abort   the one transactional producer, to the topic "txn"
 *   fresh                      another producer takes the transactional id over and commits one record
 *   join G PROTOCOL            a member of group G, subscribed to "group"
 *   take G N                   its next N values, committed
 *   trim T P O                 DeleteRecords
 *   quota                      1,000,000 bytes a second for the client id "slow"
 *   cluster                    topics with id and what was configured, quotas, groups with their offsets,
 *                              the state of the producers of "idem" and "txn"
 */
public class BothWays {
    static final int TIMEOUT_S = 60;
    static String bootstrap;
    static Admin admin;
    static KafkaProducer<String, String> idempotent, transactional;
    static final Map<String, KafkaConsumer<String, String>> members = new HashMap<>();
    static int sent, fill;

    static Map<String, Object> conf(Object... more) {
        Map<String, Object> p = new HashMap<>();
        p.put("bootstrap.servers", bootstrap);
        p.put("reconnect.backoff.max.ms", "200");
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        for (int i = 0; i < more.length; i += 2)
            p.put((String) more[i], more[i + 1]);
        return p;
    }

    static String create(String[] a) throws Exception {
        Map<String, String> config = new HashMap<>();
        for (int i = 3; i < a.length; i++)
            config.put(a[i].split("=")[0], a[i].split("=")[1]);
        admin.createTopics(List.of(new NewTopic(a[1], Integer.parseInt(a[2]), (short) 1).configs(config)))
                .all().get();
        return "";
    }

    static String fill(String topic, String codec, int n) throws Exception {
        try (KafkaProducer<String, String> p = new KafkaProducer<>(conf("compression.type", codec, "linger.ms", 5))) {
            int partitions = p.partitionsFor(topic).size();
            long at = System.currentTimeMillis() - 3600_000;
            for (int i = 0; i < n; i++, fill++) {
                RecordHeaders h = new RecordHeaders();
                if (i % 3 == 0)
                    h.add("h", ("v" + i).getBytes(StandardCharsets.UTF_8)).add("h", null).add("", new byte[0]);
                p.send(new ProducerRecord<>(topic, i % partitions, at + i, i % 4 == 0 ? null : "k" + i % 10,
                        i % 7 == 6 ? null : codec + "-" + fill + "-" + "x".repeat(i % 50), h));
            }
            p.flush();
        }
        return "";
    }

    static String send(int n) throws Exception {
        if (idempotent == null)
            idempotent = new KafkaProducer<>(conf("enable.idempotence", true, "acks", "all"));
        long last = -1;
        for (int i = 0; i < n; i++)
            last = idempotent.send(new ProducerRecord<>("idem", 0, null, "i" + sent++)).get().offset();
        return "" + last;
    }

    static KafkaProducer<String, String> transactional() {
        KafkaProducer<String, String> p = new KafkaProducer<>(conf("transactional.id", "both-ways",
                "transaction.timeout.ms", 600_000));
        p.initTransactions();
        return p;
    }

    static String transact(String[] a) throws Exception {
        switch (a[0]) {
        case "begin":
            if (transactional == null)
                transactional = transactional();
            transactional.beginTransaction();
            break;
        case "more":
            for (int i = 0; i < Integer.parseInt(a[1]); i++)
                transactional.send(new ProducerRecord<>("txn", 0, null, "t" + sent++)).get();
            break;
        case "commit":
            transactional.commitTransaction();
            break;
        default:
            transactional.abortTransaction();
        }
        return "";
    }

    static String fresh() throws Exception {
        try (KafkaProducer<String, String> p = transactional()) {
            p.beginTransaction();
            p.send(new ProducerRecord<>("txn", 0, null, "fresh" + sent++)).get();
            p.commitTransaction();
        }
        transactional = null; /* the one before is fenced */
        return "";
    }

    static String join(String group, String protocol) {
        Map<String, Object> c = conf("group.id", group, "group.protocol", protocol, "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "max.poll.records", 5);
        KafkaConsumer<String, String> k = new KafkaConsumer<>(c);
        k.subscribe(List.of("group"));
        members.put(group, k);
        return "";
    }

    static String take(String group, int n) {
        KafkaConsumer<String, String> c = members.get(group);
        List<String> values = new ArrayList<>();
        long end = System.currentTimeMillis() + TIMEOUT_S * 1000;
        while (values.size() < n) {
            if (System.currentTimeMillis() > end)
                throw new AssertionError(group + ": only " + values);
            c.poll(Duration.ofMillis(200)).forEach(r -> values.add(r.value()));
            c.commitSync();
        }
        return String.join(",", values);
    }

    static String cluster() throws Exception {
        StringBuilder out = new StringBuilder();
        SortedSet<String> names = new TreeSet<>(admin.listTopics().names().get());
        names.removeIf(n -> n.startsWith("_") || n.startsWith("syslog")); /* what every Sluice has */
        for (TopicDescription t : new TreeMap<>(admin.describeTopics(names).allTopicNames().get()).values()) {
            ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, t.name());
            out.append(t.name()).append(' ').append(t.topicId()).append(' ').append(t.partitions().size());
            admin.describeConfigs(List.of(r)).all().get().get(r).entries().stream()
                    .filter(e -> e.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                    .filter(e -> !e.name().startsWith("sluice."))
                    .map(e -> " " + e.name() + "=" + e.value()).sorted().forEach(out::append);
            out.append('|');
        }
        out.append(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get()).append('|');
        for (String group : new TreeSet<>(members.keySet()))
            out.append(group).append(new TreeMap<>(admin.listConsumerGroupOffsets(group)
                    .partitionsToOffsetAndMetadata().get().entrySet().stream().collect(Collectors.toMap(
                            e -> e.getKey().toString(), e -> e.getValue().offset())))).append('|');
        for (String topic : List.of("idem", "txn"))
            for (ProducerState s : admin.describeProducers(List.of(new TopicPartition(topic, 0)))
                    .partitionResult(new TopicPartition(topic, 0)).get().activeProducers())
                out.append(topic).append(' ').append(s.producerId()).append('/').append(s.producerEpoch()).append(' ')
                        .append(s.lastSequence()).append(' ').append(s.currentTransactionStartOffset()).append('|');
        return out.toString();
    }

    static String run(String[] a) throws Exception {
        switch (a[0]) {
        case "create":
            return create(a);
        case "fill":
            return fill(a[1], a[2], Integer.parseInt(a[3]));
        case "send":
            return send(Integer.parseInt(a[1]));
        case "begin": case "more": case "commit": case "abort":
            return transact(a);
        case "fresh":
            return fresh();
        case "join":
            return join(a[1], a[2]);
        case "take":
            return take(a[1], Integer.parseInt(a[2]));
        case "trim":
            admin.deleteRecords(Map.of(new TopicPartition(a[1], Integer.parseInt(a[2])),
                    RecordsToDelete.beforeOffset(Long.parseLong(a[3])))).all().get();
            return "";
        case "quota":
            admin.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("client-id", "slow")),
                    List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all().get();
            return "";
        case "cluster":
            return cluster();
        default:
            throw new IllegalArgumentException(a[0]);
        }
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        admin = Admin.create(conf());
        Scanner in = new Scanner(System.in);
        System.out.println("ready");
        while (in.hasNextLine()) {
            try {
                System.out.println("ok " + run(in.nextLine().split(" ")));
            } catch (Throwable e) {
                System.out.println("failed " + e.toString().replace('\n', ' '));
            }
        }
        Runtime.getRuntime().halt(0); /* a member that is closed would leave its group first */
    }
}

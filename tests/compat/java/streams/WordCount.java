import java.nio.file.Files;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.Stores;

/**
 * Counts words exactly once. Arguments: bootstrap, topic of lines, topic of counts, lines per round,
 * rounds. Before each round after the first a line is printed and one awaited, so that a test can
 * kill the broker amid the stream. In the end each word's counts, read committed, must be 1, 2, 3 ...
 */
public class WordCount {
    static final String[] WORDS = {"all", "your", "base", "are", "belong"};

    static Map<String, Object> client(String bootstrap) {
        Map<String, Object> p = new HashMap<>();
        p.put("bootstrap.servers", bootstrap);
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", LongDeserializer.class.getName());
        p.put("reconnect.backoff.max.ms", "200");
        return p;
    }

    public static void main(String[] a) throws Exception {
        String bootstrap = a[0], lines = a[1], counts = a[2];
        int perRound = Integer.parseInt(a[3]), rounds = Integer.parseInt(a[4]);
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, "words-" + counts);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        p.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("words").toString());
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.String().getClass());
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.String().getClass());
        p.put("auto.offset.reset", "earliest");
        p.put("reconnect.backoff.max.ms", "200");
        StreamsBuilder b = new StreamsBuilder();
        b.<String, String>stream(lines)
            .flatMapValues(v -> Arrays.asList(v.split(" ")))
            .groupBy((k, word) -> word)
            .count(Materialized.as(Stores.inMemoryKeyValueStore("counts")))
            .toStream()
            .to(counts, Produced.with(Serdes.String(), Serdes.Long()));
        Scanner in = new Scanner(System.in);
        int want = 0;
        Map<String, List<Long>> got = new TreeMap<>();
        Map<String, Object> reader = client(bootstrap);
        reader.put("group.id", "reader");
        reader.put("isolation.level", "read_committed");
        try (KafkaStreams streams = new KafkaStreams(b.build(), p);
             KafkaProducer<String, String> feed = new KafkaProducer<>(client(bootstrap));
             KafkaConsumer<String, Long> c = new KafkaConsumer<>(reader)) {
            List<TopicPartition> all = new ArrayList<>();
            c.partitionsFor(counts).forEach(i -> all.add(new TopicPartition(counts, i.partition())));
            c.assign(all);
            c.seekToBeginning(all);
            streams.start();
            for (int round = 0; round < rounds; round++) {
                for (int i = 0; i < perRound; i++)
                    feed.send(new ProducerRecord<>(lines, "" + i, String.join(" ", WORDS)));
                feed.flush();
                want += perRound * WORDS.length;
                if (round > 0) {
                    System.out.println("amid " + round);
                    System.out.flush();
                    in.nextLine();
                }
                long end = System.currentTimeMillis() + 120000;
                while (got.values().stream().mapToInt(List::size).sum() < want) {
                    if (System.currentTimeMillis() > end)
                        throw new AssertionError("round " + round + ": " + got + " " + streams.state());
                    for (ConsumerRecord<String, Long> r : c.poll(Duration.ofMillis(200)))
                        got.computeIfAbsent(r.key(), k -> new ArrayList<>()).add(r.value());
                }
            }
            for (ConsumerRecord<String, Long> r : c.poll(Duration.ofSeconds(2)))
                got.get(r.key()).add(r.value());
        }
        for (String w : WORDS) {
            List<Long> v = got.get(w);
            if (v.size() != perRound * rounds)
                throw new AssertionError(w + " has " + v.size() + " counts");
            for (int i = 0; i < v.size(); i++)
                if (v.get(i) != i + 1)
                    throw new AssertionError(w + ": count " + i + " is " + v.get(i));
        }
        System.out.println("ok words " + want);
    }
}

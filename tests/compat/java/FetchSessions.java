import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * One consumer over every partition of a topic, which Java reads through a fetch session. Arguments:
 * bootstrap, topic, partitions, rounds. Each round one record goes to a few partitions and must come
 * back, alone; a line on standard input is waited for between rounds, so that a test can restart the
 * broker there. Half of the partitions are dropped from the assignment at the end.
 */
public class FetchSessions {
    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]), rounds = Integer.parseInt(args[3]);
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("reconnect.backoff.max.ms", "200");
        p.put("linger.ms", "0");
        Scanner in = new Scanner(System.in);
        try (KafkaConsumer<String, String> c = new KafkaConsumer<>(p);
             KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int i = 0; i < partitions; i++)
                all.add(new TopicPartition(topic, i));
            c.assign(all);
            Random rng = new Random(1);
            for (int round = 0; round < rounds; round++) {
                if (round == rounds - 1) {
                    all = all.subList(0, partitions / 2);
                    c.assign(all);
                }
                Map<String, Integer> sent = new TreeMap<>();
                for (int i = 0; i < 5; i++) {
                    int to = rng.nextInt(all.size());
                    String value = "round-" + round + "-" + i;
                    producer.send(new ProducerRecord<>(topic, to, null, value)).get();
                    sent.put(value, to);
                }
                long end = System.currentTimeMillis() + 60000;
                while (!sent.isEmpty()) {
                    if (System.currentTimeMillis() > end)
                        throw new IllegalStateException("round " + round + ": missing " + sent);
                    for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(500))) {
                        Integer to = sent.remove(r.value());
                        if (to == null || to != r.partition())
                            throw new IllegalStateException("round " + round + ": unexpected " + r);
                    }
                }
                System.out.println("round " + round);
                in.nextLine();
            }
            System.out.println("whole");
        }
    }
}

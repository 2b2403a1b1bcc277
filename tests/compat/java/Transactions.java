import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Transactions of the Java clients, which speak KIP-890 (transaction.version 2). Arguments:
 * bootstrap, and what to do: each prints one line that begins with "ok", or ends in an exception.
 *   epochs T            the broker finalizes transaction.version 2, and every transaction raises the epoch
 *   pipeline T U GROUP N   N records through consume-transform-produce, every third batch aborted and
 *                       done again: U has each exactly once, the group's offsets are at the end
 *   fence T             a second producer with the same id ends the first one's transaction
 *   timeout T           a transaction that takes too long is aborted by the broker
 *   crash T N           N transactions; before the end of each one a line is printed and one awaited
 */
public class Transactions {
    static String bootstrap;

    static KafkaProducer<String, String> producer(String id, Object... more) {
        Map<String, Object> p = new HashMap<>();
        p.put("bootstrap.servers", bootstrap);
        p.put("transactional.id", id);
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        p.put("reconnect.backoff.max.ms", "200");
        for (int i = 0; i < more.length; i += 2)
            p.put((String) more[i], more[i + 1]);
        KafkaProducer<String, String> k = new KafkaProducer<>(p);
        k.initTransactions();
        return k;
    }

    static KafkaConsumer<String, String> consumer(String group) {
        Map<String, Object> p = new HashMap<>();
        p.put("bootstrap.servers", bootstrap);
        p.put("group.id", group);
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("isolation.level", "read_committed");
        p.put("max.poll.records", "7");
        return new KafkaConsumer<>(p);
    }

    /** Values of every partition of a topic, in order, up to the last stable offset. */
    static List<String> committed(String topic) {
        List<String> out = new ArrayList<>();
        try (KafkaConsumer<String, String> c = consumer("reader")) {
            List<TopicPartition> all = new ArrayList<>();
            c.partitionsFor(topic).forEach(i -> all.add(new TopicPartition(topic, i.partition())));
            c.assign(all);
            c.seekToBeginning(all);
            Map<TopicPartition, Long> end = c.endOffsets(all);
            while (!all.stream().allMatch(tp -> c.position(tp) >= end.get(tp)))
                c.poll(Duration.ofMillis(200)).forEach(r -> out.add(r.value()));
        }
        return out;
    }

    static void check(boolean what, String text) {
        if (!what)
            throw new AssertionError(text);
    }

    static void epochs(String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", (Object) bootstrap));
             KafkaProducer<String, String> p = producer("epochs")) {
            FeatureMetadata f = admin.describeFeatures().featureMetadata().get();
            check(f.finalizedFeatures().get("transaction.version").maxVersionLevel() == 2, f.toString());
            int last = -1;
            for (int i = 0; i < 3; i++) {
                p.beginTransaction();
                p.send(new ProducerRecord<>(topic, "e" + i)).get();
                p.commitTransaction();
                int epoch = admin.describeTransactions(List.of("epochs")).description("epochs").get().producerEpoch();
                check(epoch > last, "epoch " + epoch + " after " + last);
                last = epoch;
            }
            System.out.println("ok epochs " + last);
        }
    }

    static void pipeline(String in, String out, String group, int n) throws Exception {
        try (KafkaProducer<String, String> p = producer("feed")) {
            p.beginTransaction();
            for (int i = 0; i < n; i++)
                p.send(new ProducerRecord<>(in, "k" + i, "" + i));
            p.commitTransaction();
        }
        int done = 0, round = 0, aborted = 0;
        try (KafkaConsumer<String, String> c = consumer(group);
             KafkaProducer<String, String> p = producer("pipeline")) {
            c.subscribe(List.of(in));
            long end = System.currentTimeMillis() + 90000;
            while (done < n) {
                check(System.currentTimeMillis() < end, "only " + done + " of " + n);
                ConsumerRecords<String, String> some = c.poll(Duration.ofMillis(500));
                if (some.isEmpty())
                    continue;
                p.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> r : some) {
                    p.send(new ProducerRecord<>(out, r.key(), "x" + r.value()));
                    offsets.put(new TopicPartition(in, r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                p.sendOffsetsToTransaction(offsets, c.groupMetadata());
                if (round++ % 3 == 1) {
                    p.flush();
                    p.abortTransaction();
                    aborted++;
                    Map<TopicPartition, OffsetAndMetadata> at = c.committed(c.assignment());
                    for (TopicPartition tp : c.assignment())
                        c.seek(tp, at.get(tp) == null ? 0 : at.get(tp).offset());
                    continue;
                }
                p.commitTransaction();
                done += some.count();
            }
        }
        List<String> got = committed(out);
        Set<String> once = new TreeSet<>(got);
        check(got.size() == n && once.size() == n, got.size() + " records, " + once.size() + " different");
        System.out.println("ok pipeline " + n + " aborted " + aborted);
    }

    static void fence(String topic) throws Exception {
        try (KafkaProducer<String, String> first = producer("fenced")) {
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "of the zombie")).get();
            try (KafkaProducer<String, String> second = producer("fenced")) {
                second.beginTransaction();
                second.send(new ProducerRecord<>(topic, "of the heir")).get();
                try {
                    first.commitTransaction();
                    check(false, "the zombie committed");
                } catch (KafkaException e) { // fenced, or its epoch is not valid any more
                    System.out.println("told: " + e.getClass().getSimpleName());
                }
                second.commitTransaction();
            }
        }
        List<String> got = committed(topic);
        check(got.equals(List.of("of the heir")), got.toString());
        System.out.println("ok fence");
    }

    static void timeout(String topic) throws Exception {
        try (KafkaProducer<String, String> p = producer("slow", "transaction.timeout.ms", 1000)) {
            p.beginTransaction();
            p.send(new ProducerRecord<>(topic, "too slow")).get();
            try (Admin admin = Admin.create(Map.of("bootstrap.servers", (Object) bootstrap))) {
                long end = System.currentTimeMillis() + 30000;
                while (admin.describeTransactions(List.of("slow")).description("slow").get().state()
                       != TransactionState.COMPLETE_ABORT) {
                    check(System.currentTimeMillis() < end, "not aborted");
                    Thread.sleep(50);
                }
            }
            try {
                p.commitTransaction();
                check(false, "committed after its timeout");
            } catch (KafkaException e) {
                System.out.println("told: " + e.getClass().getSimpleName());
            }
        }
        check(committed(topic).isEmpty(), "something of it is committed");
        System.out.println("ok timeout");
    }

    static void crash(String topic, int n) throws Exception {
        Scanner in = new Scanner(System.in);
        List<String> want = new ArrayList<>();
        try (KafkaProducer<String, String> p = producer("crash")) {
            for (int i = 0; i < n; i++) {
                p.beginTransaction();
                for (int k = 0; k < 20; k++)
                    p.send(new ProducerRecord<>(topic, 0, "k", i + "." + k));
                p.flush();
                System.out.println("open " + i);
                System.out.flush();
                in.nextLine();
                if (i % 2 == 0) {
                    for (int k = 0; k < 20; k++)
                        want.add(i + "." + k);
                    p.commitTransaction();
                } else {
                    p.abortTransaction();
                }
            }
        }
        List<String> got = committed(topic);
        check(got.equals(want), got.size() + " records for " + want.size() + ": " + got);
        System.out.println("ok crash " + n);
    }

    public static void main(String[] a) throws Exception {
        bootstrap = a[0];
        switch (a[1]) {
            case "epochs" -> epochs(a[2]);
            case "pipeline" -> pipeline(a[2], a[3], a[4], Integer.parseInt(a[5]));
            case "fence" -> fence(a[2]);
            case "timeout" -> timeout(a[2]);
            case "crash" -> crash(a[2], Integer.parseInt(a[3]));
            default -> throw new IllegalArgumentException(a[1]);
        }
    }
}

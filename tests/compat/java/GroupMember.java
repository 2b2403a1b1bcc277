import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * One member of a consumer group of the new protocol (KIP-848). Arguments: bootstrap, group, what it
 * subscribes to (a topic, or "re:" and a pattern for the broker to match), and key=value of its
 * configuration. Writes a line for everything that happens to it; reads commands: commit, stop.
 */
public class GroupMember {
    static String names(Collection<TopicPartition> parts) {
        return parts.stream().map(TopicPartition::toString).sorted().collect(Collectors.joining(","));
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("group.id", args[1]);
        p.put("group.protocol", "consumer");
        p.put("key.deserializer", StringDeserializer.class.getName());
        p.put("value.deserializer", StringDeserializer.class.getName());
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("metadata.max.age.ms", "1000");
        p.put("reconnect.backoff.max.ms", "200");
        for (int i = 3; i < args.length; i++)
            p.put(args[i].substring(0, args[i].indexOf('=')), args[i].substring(args[i].indexOf('=') + 1));
        Queue<String> commands = new java.util.concurrent.ConcurrentLinkedQueue<>();
        Thread reader = new Thread(() -> {
            Scanner in = new Scanner(System.in);
            while (in.hasNextLine())
                commands.add(in.nextLine());
            commands.add("stop");
        });
        reader.setDaemon(true);
        reader.start();
        KafkaConsumer<String, String> c = new KafkaConsumer<>(p);
        ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> parts) {
                say("revoked " + names(parts));
            }

            public void onPartitionsAssigned(Collection<TopicPartition> parts) {
                say("assigned " + names(parts));
            }

            public void onPartitionsLost(Collection<TopicPartition> parts) {
                say("lost " + names(parts));
            }
        };
        if (args[2].startsWith("re:"))
            c.subscribe(new SubscriptionPattern(args[2].substring(3)), listener);
        else
            c.subscribe(List.of(args[2].split(",")), listener);
        try {
            while (true) {
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50)))
                    say("value " + r.value());
                String command = commands.poll();
                if ("stop".equals(command))
                    break;
                if ("commit".equals(command)) {
                    try {
                        c.commitSync();
                        say("committed");
                    } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException e) {
                        commands.add("commit"); // after the rebalance
                    }
                }
            }
        } catch (Exception e) {
            say("failed " + e);
        }
        c.close();
        say("closed");
    }
}

/* The names of the topic configurations that Kafka has, one a line. */
import org.apache.kafka.storage.internals.log.LogConfig;

class TopicKeys {
    public static void main(String[] args) {
        for (String name : LogConfig.nonInternalConfigNames())
            System.out.println(name);
    }
}

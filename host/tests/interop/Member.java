import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a group by Parallel Consumer: BOOTSTRAP GROUP TOPIC [BLOCKED-KEY,... [FAILING-KEY,...]]. Prints
 * PARTITION OFFSET of what it has handled; the records of some keys it never gets done with. Leaves, with a last commit,
 * when its input ends.
 */
class Member {
    public static void main(String[] arguments) throws Exception {
        Set<String> blocked = keys(arguments, 3), failing = keys(arguments, 4);
        var consumer = new KafkaConsumer<>(
            Map.<String, Object>of(
                BOOTSTRAP_SERVERS_CONFIG, arguments[0],
                GROUP_ID_CONFIG, arguments[1],
                AUTO_OFFSET_RESET_CONFIG, "earliest",
                ENABLE_AUTO_COMMIT_CONFIG, false),
            new StringDeserializer(), new StringDeserializer());
        var options = ParallelConsumerOptions.<String, String>builder()
            .consumer(consumer)
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(16)
            .commitMode(CommitMode.PERIODIC_CONSUMER_SYNC)
            .commitInterval(Duration.ofMillis(100))
            .shutdownTimeout(Duration.ofSeconds(1)) // then it interrupts what is blocked
            .build();
        var member = ParallelStreamProcessor.createEosStreamProcessor(options);
        member.subscribe(List.of(arguments[2]));
        member.poll(context -> {
            String key = context.getSingleConsumerRecord().key();
            if (blocked.contains(key)) sleep();
            if (failing.contains(key)) throw new IllegalStateException("told to fail");
            System.out.println(context.getSingleConsumerRecord().partition() + " " + context.offset());
        });
        while (System.in.read() >= 0);
        member.closeDontDrainFirst();
    }

    static Set<String> keys(String[] arguments, int index) {
        return arguments.length > index ? Set.of(arguments[index].split(",")) : Set.of();
    }

    static void sleep() {
        try {
            Thread.sleep(Long.MAX_VALUE);
        } catch (InterruptedException leaving) {
            throw new IllegalStateException("not done", leaving);
        }
    }
}

import static org.apache.kafka.clients.consumer.ConsumerConfig.*;

import com.sun.management.OperatingSystemMXBean;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Confluent's Parallel Consumer over a whole topic: BOOTSTRAP TOPIC GROUP RECORDS IN-FLIGHT. A record's value says what it
 * is to do, as it does to plugins/flaky: {"do": "sleep", "ms": MS} waits, anything else does nothing. The order of each key
 * is kept. Prints a line of SECONDS from the first record to the last, SECONDS of processors in that time, MiB of heap at
 * the most, and MiB of resident memory at the most. With the class path of `.ci/kafka parallel-consumer`:
 * java -cp CLASS-PATH bench/peers/ParallelConsumer.java 127.0.0.1:9092 topic group 10000 100
 */
class ParallelConsumer {
    static final Pattern MILLISECONDS = Pattern.compile("\"ms\": *(\\d+)");

    public static void main(String[] arguments) throws Exception {
        long records = Long.parseLong(arguments[3]);
        int inFlight = Integer.parseInt(arguments[4]);
        var consumer = new KafkaConsumer<>(
            Map.<String, Object>of(
                BOOTSTRAP_SERVERS_CONFIG, arguments[0],
                GROUP_ID_CONFIG, arguments[2],
                AUTO_OFFSET_RESET_CONFIG, "earliest",
                ENABLE_AUTO_COMMIT_CONFIG, false,
                MAX_POLL_RECORDS_CONFIG, Math.max(500, inFlight)), // else a poll is less than what may be in flight
            new StringDeserializer(), new StringDeserializer());
        var options = ParallelConsumerOptions.<String, String>builder()
            .consumer(consumer)
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(inFlight)
            .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
            .build();
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        var begun = new AtomicLong();
        var handled = new AtomicLong();
        var processorsBefore = new AtomicLong();
        var last = new CountDownLatch(1);
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(arguments[1]));
        processor.poll(context -> {
            if (begun.get() == 0 && begun.compareAndSet(0, System.nanoTime()))
                processorsBefore.set(system.getProcessCpuTime());
            handle(context.getSingleConsumerRecord().value());
            if (handled.incrementAndGet() == records) last.countDown();
        });
        last.await();
        double seconds = (System.nanoTime() - begun.get()) / 1e9;
        double processors = (system.getProcessCpuTime() - processorsBefore.get()) / 1e9;
        processor.closeDontDrainFirst();
        System.out.printf("%.3f %.3f %.0f %.0f%n", seconds, processors, heap(), resident());
    }

    static void handle(String value) {
        if (value == null || !value.contains("\"sleep\"")) return;
        Matcher milliseconds = MILLISECONDS.matcher(value);
        try {
            Thread.sleep(milliseconds.find() ? Long.parseLong(milliseconds.group(1)) : 100);
        } catch (InterruptedException leaving) {
            throw new IllegalStateException("not done", leaving);
        }
    }

    /** The most that each pool of the heap has held, in MiB. */
    static double heap() {
        return ManagementFactory.getMemoryPoolMXBeans().stream()
            .filter(pool -> pool.getType() == MemoryType.HEAP)
            .map(MemoryPoolMXBean::getPeakUsage)
            .mapToDouble(usage -> usage.getUsed() / 1048576.0)
            .sum();
    }

    static double resident() throws Exception {
        try (var lines = Files.lines(Path.of("/proc/self/status"))) {
            String most = lines.filter(line -> line.startsWith("VmHWM:")).findFirst().orElseThrow();
            return Long.parseLong(most.replaceAll("\\D", "")) / 1024.0;
        }
    }
}

import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.common.utils.Utils;

/**
 * Prints java_partitions.tsv: where Kafka's own client puts keys. With the jars that `.ci/kafka` downloads:
 * java -cp 'target/kafka/4.3.1/libs/*' host/tests/conformance/JavaPartitions.java >host/tests/conformance/java_partitions.tsv
 */
class JavaPartitions {
    static final int[] COUNTS = {1, 2, 3, 5, 7, 12, 64, 100};

    public static void main(String[] arguments) {
        List<byte[]> keys = new ArrayList<>();
        for (String text : List.of("", "a", "ab", "abc", "abcd", "key", "user-1", "Grüße", "鍵", "🗝️", "{\"user\":\"u1\"}"))
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        for (int number = 0; number < 100; number++)
            keys.add(Integer.toString(number).getBytes(StandardCharsets.UTF_8));
        Random random = new Random(42); // every length has all its remainders modulo 4, and bytes over 127
        for (int length = 1; length <= 120; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            keys.add(key);
        }
        StringBuilder header = new StringBuilder("key (hex)");
        for (int count : COUNTS) header.append("\tof ").append(count);
        System.out.println(header);
        for (byte[] key : keys) {
            StringBuilder line = new StringBuilder(HexFormat.of().formatHex(key));
            for (int count : COUNTS) line.append('\t').append(Utils.toPositive(Utils.murmur2(key)) % count);
            System.out.println(line);
        }
    }
}

import io.confluent.parallelconsumer.offsets.OffsetEncoding;
import io.confluent.parallelconsumer.offsets.OffsetMapCodecManager;
import io.confluent.parallelconsumer.offsets.OffsetSimultaneousEncoder;
import java.io.*;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.*;

/**
 * Parallel Consumer's own encoders and decoder of offset maps, a line in and a line out. Ranges are START-END, without END.
 *
 * encode: BASE END UNFINISHED,... becomes FORMAT=TEXT ... of all formats that can hold it, and the one that it would choose.
 * decode: BASE TEXT becomes END UNFINISHED,...
 */
class Maps {
    public static void main(String[] arguments) throws Exception {
        OffsetSimultaneousEncoder.compressionForced = true; // else it compresses long ones only
        boolean encodes = arguments[0].equals("encode");
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var out = new PrintWriter(new OutputStreamWriter(System.out, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] fields = line.split(" ", -1);
            out.println(encodes ? encode(fields) : decode(fields));
        }
        out.flush();
    }

    static String encode(String[] fields) throws Exception {
        long base = Long.parseLong(fields[0]), end = Long.parseLong(fields[1]);
        var encoder = new OffsetSimultaneousEncoder(base, end - 1, offsets(fields[2]));
        // The layout that it has and does not write by itself.
        Method bytes = OffsetSimultaneousEncoder.class.getDeclaredMethod("addByteBufferEncoder");
        bytes.setAccessible(true);
        bytes.invoke(encoder);
        encoder.invoke();
        var texts = new StringJoiner(" ");
        for (Map.Entry<OffsetEncoding, byte[]> encoded : encoder.getEncodingMap().entrySet()) {
            var text = new ByteArrayOutputStream();
            text.write(encoded.getKey().magicByte);
            text.write(encoded.getValue());
            texts.add(encoded.getKey().name() + "=" + Base64.getEncoder().encodeToString(text.toByteArray()));
        }
        return texts.add("chosen=" + Base64.getEncoder().encodeToString(encoder.packSmallest())).toString();
    }

    static String decode(String[] fields) throws Exception {
        long base = Long.parseLong(fields[0]);
        var map = OffsetMapCodecManager.deserialiseIncompleteOffsetMapFromBase64(base, fields[1]);
        return map.getHighestSeenOffset().get() + 1 + " " + ranges(map.getIncompleteOffsets());
    }

    static SortedSet<Long> offsets(String ranges) {
        var offsets = new TreeSet<Long>();
        for (String range : ranges.split(",")) {
            if (range.isEmpty()) continue;
            String[] ends = range.split("-");
            for (long offset = Long.parseLong(ends[0]); offset < Long.parseLong(ends[1]); offset++) offsets.add(offset);
        }
        return offsets;
    }

    static String ranges(SortedSet<Long> offsets) {
        var ranges = new StringJoiner(",");
        long start = -1, end = -1;
        for (long offset : offsets) {
            if (offset != end) {
                if (end >= 0) ranges.add(start + "-" + end);
                start = offset;
            }
            end = offset + 1;
        }
        if (end >= 0) ranges.add(start + "-" + end);
        return ranges.toString();
    }
}
